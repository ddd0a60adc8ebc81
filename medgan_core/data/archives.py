"""Published archives and manifests of every kind, read into one value: `Archive`.

Texts become positions here: patients get keys and owners, labels get classes, and each patient is held out
or not by a function of that patient alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from medgan_core.config import DataConfig
from medgan_core.data.catalog import PublishedSet, published
from medgan_core.data.folder import read_folder
from medgan_core.data.idx import read_idx
from medgan_core.data.npz import read_npz
from medgan_core.data.places import Place, locate
from medgan_core.data.records import Records
from medgan_core.data.source import Card, SiteData, is_held_out
from medgan_core.errors import ConfigError, DataError

MOST_CLASSES = 1000


@dataclass(frozen=True, eq=False)
class Archive:
    """All patients of a set, not yet divided among sites.

    `data` pools them in the order of the files; `held_out` and `site_of` have one entry for each patient;
    `site_of` is None where no manifest names sites.
    """

    data: SiteData
    held_out: tuple[bool, ...]
    site_of: tuple[str, ...] | None


def read_archive(data: DataConfig, root: Path, *, name: str) -> Archive:
    """Read a set below the data root; `name` goes on its card.

    The card says public exactly where every file that was read is the published one, byte for byte.
    Raises DataError, which names file and row, for anything missing or damaged; ConfigError for a split
    that the set does not have.
    """
    place = locate(root, data.path)
    records = READERS[data.kind](data, place)
    if data.split == "official" and records.official is None:
        raise ConfigError("data.split", "official", f"hash: {place.shown()} has no official split")
    labels, classes = _classes(records, data.classes)
    keys, owner = _owners(records.patients)
    card = _card(data, name, classes, records, place)
    return Archive(
        data=SiteData(card, keys, owner, records.images, labels),
        held_out=_held_out(data, records, keys, owner),
        site_of=_sites(records, keys, owner),
    )


def _dicom_files(data: DataConfig, place: Place) -> Records:
    from medgan_core.data.dicom import read_dicom_folder

    return read_dicom_folder(data, place)


READERS: Mapping[str, Callable[[DataConfig, Place], Records]] = {
    "idx": read_idx,
    "npz": read_npz,
    "folder": read_folder,
    "dicom": _dicom_files,
}


def _card(data: DataConfig, name: str, classes: tuple[str, ...], records: Records, place: Place) -> Card:
    known = _source(records, place)
    return Card(
        name=name,
        classes=classes,
        image_shape=(data.channels, data.image_size, data.image_size),
        modality=data.modality,
        unit=records.unit,
        public=known is not None,
        source=known.address if known else "",
        licence=known.licence if known else "",
    )


def _source(records: Records, place: Place) -> PublishedSet | None:
    """The published set that all files come from; one file more, and the set is not the published one."""
    known = published(place.path)
    if known is None or not {place.folder / file for file in known.files}.issuperset(records.files):
        return None
    return known


def _owners(patients: tuple[str, ...]) -> tuple[tuple[str, ...], Tensor]:
    position: dict[str, int] = {}
    owner = [position.setdefault(patient, len(position)) for patient in patients]
    return tuple(position), torch.tensor(owner, dtype=torch.int64)


def _held_out(data: DataConfig, records: Records, keys: tuple[str, ...], owner: Tensor) -> tuple[bool, ...]:
    """Each patient's part; under the official split a patient with any image of the test part is held out."""
    if data.split == "hash" or records.official is None:
        return tuple(is_held_out(key) for key in keys)
    held = torch.zeros(len(keys), dtype=torch.bool)
    held[owner[torch.tensor(records.official)]] = True
    return tuple(held.tolist())


def _sites(records: Records, keys: tuple[str, ...], owner: Tensor) -> tuple[str, ...] | None:
    if records.sites is None:
        return None
    site_of: dict[int, str] = {}
    for row, (patient, site) in enumerate(zip(owner.tolist(), records.sites, strict=True)):
        if site_of.setdefault(patient, site) != site:
            raise DataError(
                f"{records.where(row)}: this patient is at site {site_of[patient]} in an earlier row; "
                "expected one site for each patient"
            )
    return tuple(site_of[patient] for patient in range(len(keys)))


def _classes(records: Records, declared: tuple[str, ...]) -> tuple[Tensor, tuple[str, ...]]:
    """Labels [n] int64 and the names of the classes: declared ones, else integers as such or sorted names."""
    names = declared or _names(records)
    position = {str(i): i for i in range(len(names))} | {name: i for i, name in enumerate(names)}
    for row, label in enumerate(records.labels):
        if label not in position:
            expected = f"one of {', '.join(names[:20])}, or 0 to {len(names) - 1}"
            raise DataError(f"{records.where(row)}: label {label!r}; expected {expected}")
    return torch.tensor([position[label] for label in records.labels], dtype=torch.int64), names


def _names(records: Records) -> tuple[str, ...]:
    labels = sorted(set(records.labels))
    integers = all(label.isascii() and label.isdigit() and len(label) < 10 for label in labels)
    count = max(int(label) for label in labels) + 1 if integers else len(labels)
    if "" in labels:
        raise DataError(f"{records.where(records.labels.index(''))}: label is blank")
    if count > MOST_CLASSES:
        raise DataError(f"{records.where(0)}: {count} classes; expected at most {MOST_CLASSES}")
    return tuple(str(i) for i in range(count)) if integers else tuple(labels)
