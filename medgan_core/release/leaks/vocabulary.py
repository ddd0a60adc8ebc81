"""Words that say nothing of anybody: those of the standard, of this program, and what is too short."""

import re
from functools import cache

import pydicom
from pydicom._dicom_dict import DicomDictionary
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID

from medgan_core.release.anonymize.allowed import TERMS
from medgan_core.release.anonymize.codes import known_codes

_SHORTEST, _SHORTEST_NUMBER, _DISTINCT = 4, 6, 3
_NUMBERING = re.compile(r"[A-Za-z]{0,5}[-_ .]?\d{1,6}")
_GENERIC = frozenset(
    """
    dicomdir manifest labels readme license card index images image series study studies patient patients
    slice slices dicom data scan scans file files test train zip dcm ima export import archive notes
    """.split()  # noqa: SIM905 - one word a line would be a page
)
# The software's own marks stand in what it writes, whether or not it wrote the real files too.
_WRITER = frozenset({str(PYDICOM_IMPLEMENTATION_UID), f"PYDICOM {pydicom.__version__}"})
_OURS = _WRITER | {"ISO_IR 192", "ISO_IR 100", "UNKNOWN", "ANON", "ANONYMOUS", "REMOVED", "MEDGAN"}


def too_common(text: str, numbers_too: bool = True) -> bool:
    """Whether a value is so short or so even that it stands in any file by chance."""
    if len(text) < _SHORTEST or len(set(text)) < _DISTINCT:
        return True
    plain = re.sub(r"[\s.+-]", "", text)
    return numbers_too and plain.isdigit() and (len(plain) < _SHORTEST_NUMBER or text.count(".") == 1)


def public_word(text: str) -> bool:
    """Whether a text is a term, a name or a meaning of the standard, or each of its words is one."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    if text.upper() in _terms() or text.upper() in _OURS:
        return True
    return not any(c.isdigit() for c in text) and bool(words) and all(word in _words() for word in words)


def generic_name(text: str) -> bool:
    """Whether part of a file's name is a number in a row or a word that any folder has."""
    return len(text) < _SHORTEST + 1 or text.lower() in _GENERIC or _NUMBERING.fullmatch(text) is not None


@cache
def _terms() -> frozenset[str]:
    lists = {term for terms in TERMS.values() for term in terms}
    names = {entry[2] for entry in DicomDictionary.values()} | {
        entry[4] for entry in DicomDictionary.values()
    }
    uids = {entry[0] for entry in UID_dictionary.values()}
    concepts = {code.meaning for code in known_codes().values()}
    return frozenset(str(text).upper() for text in lists | names | uids | concepts)


@cache
def _words() -> frozenset[str]:
    """Words of attribute names and image terms. Not of all concepts: some are surnames."""
    names = {entry[2] for entry in DicomDictionary.values()}
    lists = {term for terms in TERMS.values() for term in terms}
    return frozenset(word for text in names | lists for word in re.findall(r"[a-z]{2,}", text.lower()))
