"""PS3.15 table E.1-1, Basic Profile: what the standard asks for each attribute that it names.

The table comes from dicom-anonymizer, which keeps it current; its engine is not used.
"""

from functools import cache
from typing import Literal

from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as fields

EDITION = "2026c"
Letter = Literal["X", "Z", "D", "U", "R"]
"""Drop; empty; replace; another UID; look into the sequence, whose UIDs are replaced (X/Z/U*)."""

# Where the standard leaves a choice the letter is the one that keeps least.
_LETTERS: tuple[tuple[Letter, list[tuple[int, ...]]], ...] = (
    ("D", fields.D_TAGS),
    ("Z", fields.Z_TAGS),
    ("Z", fields.Z_D_TAGS),
    ("X", fields.X_TAGS),
    ("X", fields.X_Z_TAGS),
    ("X", fields.X_D_TAGS),
    ("X", fields.X_Z_D_TAGS),
    ("U", fields.U_TAGS),
    ("R", fields.X_Z_U_STAR_TAGS),
)


@cache
def basic_profile() -> dict[int, Letter]:
    """The letter of each attribute by its tag; groups of repeated tags (curves, overlays) are not in it."""
    return {(tag[0] << 16) | tag[1]: letter for letter, tags in _LETTERS for tag in tags if len(tag) == 2}
