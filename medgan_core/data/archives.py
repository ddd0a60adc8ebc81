"""Published archives and manifests of every kind, read into one value: `Archive`.

Texts become positions here: patients get keys and owners, labels get classes, and each patient is held out
or not by a function of that patient alone.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
    `site_of` is None where no manifest names sites. `left_out` counts by reason the images without what the
    study needs.
    """

    data: SiteData
    held_out: tuple[bool, ...]
    site_of: tuple[str, ...] | None
    left_out: Mapping[str, int] = field(default_factory=dict)


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
    _check_sites(records)
    return Archive(
        data=SiteData(card, keys, owner, records.images, labels),
        held_out=_named(data, card, keys) if data.hold_out else _held_out(data, records, keys, owner),
        site_of=_sites(records, keys, owner),
        left_out=dict(sorted(Counter(left.reason for left in records.left_out).items())),
    )


def _dicom_files(data: DataConfig, place: Place) -> Records:
    from medgan_core.data.dicom.folder import read_dicom_folder, read_volumes

    return read_volumes(data, place) if data.depth else read_dicom_folder(data, place)


def _nifti_files(data: DataConfig, place: Place) -> Records:
    from medgan_core.data.nifti import read_nifti

    return read_nifti(data, place)


READERS: Mapping[str, Callable[[DataConfig, Place], Records]] = {
    "idx": read_idx,
    "npz": read_npz,
    "folder": read_folder,
    "dicom": _dicom_files,
    "nifti": _nifti_files,
}


def _card(data: DataConfig, name: str, classes: tuple[str, ...], records: Records, place: Place) -> Card:
    known = _source(records, place)
    return Card(
        name=name,
        classes=classes,
        image_shape=data.image_shape,
        modality=data.modality,
        unit=records.unit,
        public=known is not None,
        source=known.address if known else "",
        licence=known.licence if known else "",
        channels=data.channel_names,
    )


def _source(records: Records, place: Place) -> PublishedSet | None:
    """The published set that all files come from; one file more, and the set is not the published one."""
    known = published(place.path)
    return known if known is not None and known.holds(place.folder, records.files) else None


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


def _named(data: DataConfig, card: Card, keys: tuple[str, ...]) -> tuple[bool, ...]:
    """Exactly the patients that the study names, which it may do where everybody knows them."""
    if not card.public:
        raise ConfigError("data.hold_out", data.hold_out, "[]: only patients of a published set are named")
    for name in data.hold_out:
        if name not in keys:
            raise ConfigError("data.hold_out", name, f"patients of the set, such as {', '.join(keys[:5])}")
    return tuple(key in data.hold_out for key in keys)


def _check_sites(records: Records) -> None:
    """Refuse a site all of whose images were left out."""
    for left in records.left_out:
        if left.site and left.site not in (records.sites or ()):
            raise DataError(f"site {left.site}: all images are left out: {left.reason}")


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
    """Labels [n] int64 and the names of the classes: declared ones, else those there are, in order."""
    names = declared or _names(records)
    position = {str(i): i for i in range(len(names))} | {name: i for i, name in enumerate(names)}
    for row, label in enumerate(records.labels):
        if label not in position:
            expected = f"one of {', '.join(names[:20])}, or 0 to {len(names) - 1}"
            raise DataError(f"{records.where(row)}: label {label!r}; expected {expected}")
    return torch.tensor([position[label] for label in records.labels], dtype=torch.int64), names


def _names(records: Records) -> tuple[str, ...]:
    labels = sorted(set(records.labels))
    if "" in labels:
        raise DataError(f"{records.where(records.labels.index(''))}: label is blank")
    if all(label.isascii() and label.isdigit() and len(label) < 10 for label in labels):
        labels = [str(number) for number in sorted(set(map(int, labels)))]
    if len(labels) > MOST_CLASSES:
        raise DataError(f"{records.where(0)}: {len(labels)} classes; expected at most {MOST_CLASSES}")
    return tuple(labels)
