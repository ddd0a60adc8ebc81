"""Coded concepts that may stay: codes of public schemes, with the meaning that the standard gives them.

The dictionary is pydicom's, of PS3.16. A code of a private scheme, and a meaning that somebody typed, go.
"""

from functools import cache

from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

_SCHEMES = ("DCM", "SCT", "UCUM")


@cache
def known_codes() -> dict[tuple[str, str], Code]:
    """Concepts of PS3.16 by scheme and code."""
    found: dict[tuple[str, str], Code] = {}
    for scheme in _SCHEMES:
        collection = getattr(codes, scheme)
        for name in collection.dir():
            try:
                concept = getattr(collection, name)
            except RuntimeError:  # a keyword of two codes: pydicom cannot say which
                continue
            found[scheme, str(concept.value)] = concept
    return found


def public_code(item: Dataset) -> Dataset | None:
    """The item of a code sequence written anew; None where its code is not of the standard."""
    said = Code(str(item.get("CodeValue", "")), str(item.get("CodingSchemeDesignator", "")), "")
    for code in (_in_snomed(said), said):
        concept = known_codes().get((code.scheme_designator, code.value))
        if concept is not None:
            return code_item(concept)
    return None


def code_item(concept: Code) -> Dataset:
    """A coded concept as an item of a sequence, PS3.3 section 8."""
    item = Dataset()
    item.CodeValue = str(concept.value)
    item.CodingSchemeDesignator = str(concept.scheme_designator)
    item.CodeMeaning = str(concept.meaning)[:64]
    return item


def _in_snomed(code: Code) -> Code:
    """A retired SNOMED RT code as that of SNOMED CT."""
    from pydicom.sr._snomed_dict import mapping

    if code.scheme_designator not in ("SRT", "SNM3", "99SDM"):
        return code
    return Code(mapping["SRT"].get(code.value, ""), "SCT", "")
