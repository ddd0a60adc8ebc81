"""What a site keeps of pulled images: stored values and numbers, labels, keyed patients. No header, no name.

    pulled/ledger.sqlite  pulled/objects/<key>.image, <key>.note  pulled/current

An image is a bare DICOM file, its note the label, the keyed patient and a mask where one is segmented; both
are encrypted where the site gives a key. An object is on disk before the ledger says so. `current` lists the
objects of the last pull that was whole: a reader has the labels and patients of one pull, never of two.
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.folder import CLOSED, on_disk, replace_private
from medgan_core.config import DataConfig
from medgan_core.data.dicom.objects import Object
from medgan_core.data.dicom.sealing import sealed, unsealed
from medgan_core.data.dicom.sources import Sealed
from medgan_core.data.dicom.stream import Stream
from medgan_core.data.pacs.headers import header_of
from medgan_core.data.pacs.labels import Mask
from medgan_core.data.places import DAMAGE
from medgan_core.errors import DataError, InputError, IntegrityError
from medgan_core.patients import Pseudonym

LOOKED_AT = DataConfig(kind="dicom", path="", frames="all", slices_per_patient=0)
"""How an object is read when it comes: all of its frames, to see whether they can be read."""
FORMAT = 2
"""Goes into the digest of what was asked for: objects that were kept in another way are fetched again."""
_AGAIN = "run medgan-client pull with --afresh"


def no_mask(header: Any) -> None:
    """There is none: nothing is segmented."""


def current_objects(folder: Path, key: bytes | None) -> list[Object]:
    """The objects of the newest set below `pulled`. InputError where nothing was pulled yet."""
    listing = folder / "current"
    if not listing.is_file():
        raise InputError("no images were pulled yet: run medgan-client pull")
    rows = json.loads(_load(listing, key))
    place = folder / "objects"
    return [
        Object(name, label, Pseudonym(patient), Sealed(place / f"{name}.image", key))
        for name, label, patient in rows
    ]


@dataclass(frozen=True)
class PulledStore:
    """The folder `pulled` of a site. Calling it is the hand-over: a name and a DICOM file's bytes."""

    folder: Path
    stream: Stream
    label_of: Callable[[Any], str | None]
    mask_of: Callable[[Any], Mask | None]
    key: bytes | None = field(default=None, repr=False)

    @property
    def ledger(self) -> Path:
        """What was pulled already."""
        return self.folder / "ledger.sqlite"

    @property
    def objects(self) -> Path:
        """Two files for each object."""
        return self.folder / "objects"

    def make(self) -> None:
        """Make the folders, which only their owner may enter."""
        with on_disk(self.folder):
            for path in (self.folder, self.objects):
                path.mkdir(exist_ok=True)
                path.chmod(CLOSED)

    def __call__(self, name: str, raw: bytes) -> None:
        """Keep an object. DataError where it is no image that can be read, or has no label."""
        header = header_of(raw)
        label, mask = self.label_of(header), self.mask_of(header)
        if label is None:
            raise DataError("an object has no label")
        read = self.stream.read(raw)
        note = {"label": np.array(label), "patient": np.array(read.patient)}
        if mask is not None:
            note["mask"] = mask[0] > 0
        replace_private(self.objects / f"{name}.image", sealed(read.bare, self.key))
        replace_private(self.objects / f"{name}.note", sealed(_packed(note), self.key))

    def assemble(self, names: Sequence[str]) -> int:
        """Make these objects the set that is read, and let go of all others; its patients' number."""
        if not names:
            raise DataError("no image was kept: mind source.cohort, source.label, and what was refused")
        notes = [self.note(name) for name in names]
        rows = [[name, str(n["label"]), str(n["patient"])] for name, n in zip(names, notes, strict=True)]
        replace_private(self.folder / "current", sealed(json.dumps(rows).encode(), self.key))
        self._tidy({f"{name}.{kind}" for name in names for kind in ("image", "note")})
        return len({patient for _, _, patient in rows})

    def note(self, name: str) -> dict[str, NDArray[Any]]:
        """An object's label, patient, and mask [h, w] where it has one. IntegrityError for a damaged one."""
        path = self.objects / f"{name}.note"
        try:
            with np.load(io.BytesIO(_load(path, self.key)), allow_pickle=False) as kept:
                return {key: kept[key] for key in kept.files}
        except DAMAGE:
            raise IntegrityError(f"{path.name} is damaged: {_AGAIN}") from None

    def _tidy(self, wanted: set[str]) -> None:
        for path in self.objects.iterdir():
            if path.name not in wanted:
                path.unlink(missing_ok=True)


def _packed(arrays: dict[str, NDArray[Any]]) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def _load(path: Path, key: bytes | None) -> bytes:
    try:
        return unsealed(path.read_bytes(), key)
    except (OSError, ValueError):
        raise IntegrityError(
            f"{path.name} is missing, damaged or of another data.cache_key: {_AGAIN}"
        ) from None
