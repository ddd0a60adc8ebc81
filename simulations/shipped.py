"""The studies that come with the package."""

from pathlib import Path

from medgan_core.errors import InputError

STUDIES = Path(__file__).parent / "studies"


def study_names() -> tuple[str, ...]:
    """The shipped studies, sorted."""
    return tuple(sorted(path.stem for path in STUDIES.glob("*.toml")))


def study_path(name_or_path: str) -> Path:
    """The file of a study: an existing path, or the name of a shipped one with or without `.toml`.

    Raises InputError, which lists the shipped names.
    """
    if name_or_path and Path(name_or_path).is_file():
        return Path(name_or_path)
    name = name_or_path.removesuffix(".toml")
    if name in study_names():
        return STUDIES / f"{name}.toml"
    raise InputError(f"study {name_or_path!r}: no such file, and not one of {', '.join(study_names())}")
