"""What a coordinator may know of a site's no: nothing that depends on its data, its budget or its people."""

from medgan_core.errors import InputError, MedGANError, PolicyError, RefusedError
from medgan_core.proposals import NOT_APPROVED


def reason_for_coordinator(error: MedGANError) -> str:
    """A policy's own words on public facts, else "not approved"; of a failure its kind alone."""
    if isinstance(error, PolicyError):
        return error.told
    return (
        NOT_APPROVED if isinstance(error, (RefusedError, InputError)) else f"failed: {type(error).__name__}"
    )


def reason_for_log(error: MedGANError) -> str:
    """What the site's own log says. Errors of data may name files, and files may be named after patients."""
    if isinstance(error, InputError):
        return f"{type(error).__name__}: run medgan-client check, which names file and row"
    return str(error)
