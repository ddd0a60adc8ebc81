"""Unique identifiers that can be made again: a function of the model, the seed and the index of an image.

PS3.5 section B.2: "2.25." followed by a UUID as a decimal number. The UUID is one by name (RFC 9562,
version 5), so that the same names give the same identifier on every machine.
"""

import re
import uuid

_SPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://medgan.invalid/synthetic-dicom")
_PATTERN = re.compile(r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))+")
LONGEST = 64


def derived_uid(model: str, seed: int, index: int, *names: object) -> str:
    """The identifier `2.25.<int>` of what `names` say about the image `index` of this model and seed.

    `model` is the SHA-256 of the generator in hex. Distinct arguments give distinct identifiers.
    """
    parts = (model, str(seed), str(index), *map(str, names))
    return f"2.25.{uuid.uuid5(_SPACE, '/'.join(map(_escaped, parts))).int}"


def short_code(uid: str) -> str:
    """Twelve hexadecimal digits for people to read, from an identifier that `derived_uid` made."""
    return f"{int(uid.rpartition('.')[2]) % 16**12:012X}"


def is_uid(text: str) -> bool:
    """Whether a text is a unique identifier by PS3.5 section 9.1."""
    return len(text) <= LONGEST and _PATTERN.fullmatch(text) is not None


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
