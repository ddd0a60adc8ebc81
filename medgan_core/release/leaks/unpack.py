"""What a file holds when it is unpacked: zip, gzip, bzip2, xz and deflated DICOM, within each other too."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator

from medgan_core.errors import DataError
from medgan_core.release.anonymize.files import zip_members

_DEEPEST = 4
_PACKED: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ\x00": lzma.decompress,
}
_OTHERS = (b"7z\xbc\xaf\x27\x1c", b"\x28\xb5\x2f\xfd", b"Rar!\x1a\x07")
_DEFLATED = b"1.2.840.10008.1.2.1.99"


def layers(content: bytes, depth: int = 0) -> Iterator[bytes]:
    """The bytes as they lie, and all that they unpack to.

    Raises DataError, after the bytes themselves, where something cannot be unpacked: a damaged or encrypted
    archive, one of another kind, or one too deep.
    """
    yield content
    if content.startswith(_OTHERS):
        raise DataError("an archive of a kind that is not unpacked here")
    inside = _unpacked(content)
    if inside and depth == _DEEPEST:
        raise DataError("archives within archives, too deep")
    for part in inside:
        yield from layers(part, depth + 1)


def _unpacked(content: bytes) -> list[bytes]:
    if content.startswith(b"PK\x03\x04"):
        members = zip_members(content)
        if members is None:
            raise DataError("a zip file that cannot be unpacked")
        return [name.encode("utf-8", "surrogateescape") + b"\n" + inside for name, inside in members]
    try:
        for magic, unpack in _PACKED.items():
            if content.startswith(magic):
                return [unpack(content)]
        if content[128:132] == b"DICM" and _DEFLATED in content[:512]:
            # the length of the file meta group follows its own element, PS3.10 7.1
            start = 144 + int.from_bytes(content[140:144], "little")
            return [zlib.decompress(content[start:], -zlib.MAX_WBITS)]
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise DataError("a packed file that cannot be unpacked") from error
    return []
