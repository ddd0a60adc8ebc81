"""Which patients, studies and series a synthetic cohort has, where it is drawn from what is public.

It is a function of the release, a number that a person names and a seed: no file of a real patient has any
part in it. `mirror` repeats a real cohort instead, which is not private.
"""

from dataclasses import dataclass, field
from datetime import datetime

import torch

from medgan_core.errors import InputError
from medgan_core.release.bundle import Release
from medgan_core.release.dicom.geometry import AXIAL, Orientation
from medgan_core.seeds import Seeds


@dataclass(frozen=True)
class SeriesPlan:
    """A series to be made: how many slices, of which class, in which plane."""

    slices: int
    label: int
    plane: Orientation = AXIAL


@dataclass
class StudyPlan:
    """A study to be made; `taken` None is the day of the release."""

    series: list[SeriesPlan] = field(default_factory=list)
    taken: datetime | None = None


@dataclass
class PatientPlan:
    """A patient to be made; without `identifier` it is derived from the model, the seed and the index."""

    studies: list[StudyPlan] = field(default_factory=list)
    identifier: str = ""


def drawn(release: Release, patients: int, seed: int) -> list[PatientPlan]:
    """Patients with 1 to m studies of one image, m and the shares of the classes being the release's.

    m is the public bound on images per patient, the shares are the noisy ones of the card.
    """
    if patients < 1:
        raise InputError(f"--patients {patients}: expected 1 or more")
    random = Seeds(seed).child("structure").generator()
    shares = shares_of(release)
    most = release.study.privacy.max_images_per_patient
    plans = []
    for count in torch.randint(1, most + 1, (patients,), generator=random).tolist():
        labels = torch.multinomial(shares, count, replacement=True, generator=random).tolist()
        plans.append(PatientPlan([StudyPlan([SeriesPlan(1, label)]) for label in labels]))
    return plans


def shares_of(release: Release) -> torch.Tensor:
    """The noisy shares of the classes [K] by the card, equal ones where it has none."""
    return torch.tensor(release.card.proportions or [1.0] * len(release.facts.classes), dtype=torch.float64)
