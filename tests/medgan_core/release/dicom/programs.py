"""Programs of Debian that judge and read DICOM files."""

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

KNOWN = "Attribute with an even group number is not a recognized standard attribute - (0x0008,0x001c)"
"""Of SyntheticData, which Debian's dicom3tools are too old for."""


def needs(*programs: str) -> pytest.MarkDecorator:
    absent = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)}")


def complaints(path: Path) -> list[str]:
    """Errors and warnings of dciodvfy without those of (0008,001C)."""
    said = subprocess.run(["dciodvfy", path], check=False, capture_output=True, text=True)
    lines = (said.stdout + said.stderr).splitlines()
    about = [line.strip() for line in lines if "Error" in line or "Warning" in line]
    assert sum(KNOWN in line for line in about) == 1
    return [
        line for line in about if "0x0008,0x001c" not in line and "Standard Extended SOP Class" not in line
    ]


def errors(path: Path) -> list[str]:
    """What dciodvfy calls an error."""
    said = subprocess.run(["dciodvfy", path], check=False, capture_output=True, text=True)
    return [line.strip() for line in (said.stdout + said.stderr).splitlines() if "Error" in line]


def entities(paths: Iterable[Path]) -> str:
    """What dcentvfy finds to differ between files that should agree."""
    said = subprocess.run(["dcentvfy", *paths], check=False, capture_output=True, text=True)
    return said.stdout + said.stderr
