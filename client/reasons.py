"""How much of a site's no its coordinator hears. Knows no Flower, so that the trainer loads none."""

from medgan_core.errors import MedGANError, RefusedError


def reason_for_coordinator(error: MedGANError) -> str:
    """What a coordinator may know of a site's no: nothing that depends on its data or its policy."""
    return "not approved" if isinstance(error, RefusedError) else f"failed: {type(error).__name__}"
