"""What a site holds. Public: `Card`. Private: everything else, the number of patients too."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

import torch
from torch import Tensor

from medgan_core.config import HELD_OUT_PERCENT


@dataclass(frozen=True)
class Card:
    """The public facts of a data set: declared by a person, never computed from patients.

    `image_shape` is (channels, height, width). `unit` says whom the privacy protects: a patient with all
    images, or a single image where the set has no patient keys. `public` is true only where the person who
    is responsible for the data has declared the real images public. `channels` names each channel, the last
    one "mask" where it is one; () is a plain image.
    """

    name: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    modality: str
    unit: Literal["patient", "image"]
    public: bool
    source: str = ""
    licence: str = ""
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class SiteData:
    """Patients of one place with their images.

    `patients` [p] are distinct keys; `owner` [n] int64 says to which of them each image belongs;
    `images` [n, c, h, w] float32 in [-1, 1]; `labels` [n] int64 in [0, classes).
    """

    card: Card
    patients: tuple[str, ...]
    owner: Tensor
    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.patients)

    def of_patients(self, chosen: Sequence[int]) -> "SiteData":
        """The patients at these positions, in this order, with all their images."""
        position = torch.full((len(self.patients),), -1, dtype=torch.int64)
        position[torch.as_tensor(chosen, dtype=torch.int64)] = torch.arange(len(chosen))
        owner = position[self.owner]
        kept = owner >= 0
        patients = tuple(self.patients[i] for i in chosen)
        return SiteData(self.card, patients, owner[kept], self.images[kept], self.labels[kept])

    def of_labels(self, labels: Collection[int]) -> "SiteData":
        """The images of these labels, and the patients who have one: a function of each image alone."""
        kept = torch.isin(self.labels, torch.tensor(sorted(labels), dtype=torch.int64))
        chosen, owner = self.owner[kept].unique(return_inverse=True)
        patients = tuple(self.patients[i] for i in chosen.tolist())
        return SiteData(self.card, patients, owner, self.images[kept], self.labels[kept])

    def at_most(self, images_per_patient: int) -> "SiteData":
        """At most m images of each patient, chosen by their content: a function of that patient alone."""
        rank = [sha256(image.numpy().tobytes()).digest() for image in self.images]
        kept = torch.zeros(len(self.images), dtype=torch.bool)
        by_owner: dict[int, list[int]] = {}
        for index, owner in enumerate(self.owner.tolist()):
            by_owner.setdefault(owner, []).append(index)
        for indices in by_owner.values():
            kept[sorted(indices, key=lambda i: rank[i])[:images_per_patient]] = True
        return SiteData(self.card, self.patients, self.owner[kept], self.images[kept], self.labels[kept])


@dataclass(frozen=True, eq=False)
class Site:
    """A hospital: its name, the patients it trains on, and those it holds out."""

    name: str
    training: SiteData
    held_out: SiteData


def is_held_out(patient_key: str) -> bool:
    """Whether a patient is held out of training: a function of this patient alone (published sets)."""
    digest = sha256(patient_key.encode("utf-8", "surrogatepass")).hexdigest()
    return int(digest, 16) % 100 < HELD_OUT_PERCENT
