"""Where synthetic images come from, and what is promised to the patients behind the generator."""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from medgan_core.errors import RefusedError
from medgan_core.release.bundle import Release
from medgan_core.release.files import created

MAKER = "MedGAN"
MIRRORED = "Structure mirrors real patients: NOT DP, internal use only"


@dataclass(frozen=True)
class Provenance:
    """What every file says about its origin.

    `model` is the SHA-256 of the generator in hex, `version` that of MedGAN when it was trained, `study` the
    name of its study. `epsilon` at `delta` hold for each `unit`; `local_epsilon` without trust in the secure
    sum, None where there was none. `created` (UTC) is when the release was made: the only date that is not
    given by a caller. `seed` is that of the images.

    `mirrored`: patients, studies and intervals are those of a real cohort, which every file then says.
    """

    model: str
    version: str
    study: str
    epsilon: float
    delta: float
    unit: Literal["patient", "image"]
    created: datetime
    seed: int
    local_epsilon: float | None = None
    mirrored: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon) and self.epsilon >= 0):
            raise refused(self.study)

    @classmethod
    def of(cls, release: Release, seed: int, *, mirrored: bool = False) -> "Provenance":
        """The provenance of images that are drawn from a release with this seed.

        Raises RefusedError where the release is NOT PRIVATE.
        """
        card = release.card
        if not card.private:
            raise refused(card.study)
        return cls(
            model=card.generator_sha256,
            version=str(card.environment.get("packages", {}).get("medgan-federated", "unknown")),
            study=card.study,
            epsilon=float(card.epsilon),
            delta=card.delta,
            unit=card.unit,
            created=created(release.folder),
            seed=seed,
            local_epsilon=None if card.local_epsilon is None else float(card.local_epsilon),
            mirrored=mirrored,
        )

    def method(self) -> tuple[str, ...]:
        """The lines of DeidentificationMethod (0012,0063), of 64 characters at most.

        No profile was applied, so no code of CID 7050 is claimed.
        """
        lines = [
            "Synthetic: pixels drawn from a differentially private generator",
            f"epsilon {self.epsilon:.4g} at delta {self.delta:g} for each {self.unit}",
        ]
        if self.local_epsilon is not None:
            lines.append(f"epsilon {self.local_epsilon:.4g} without trust in the secure sum")
        return (*lines, MIRRORED if self.mirrored else "No attribute was copied from a patient's file")

    def description(self) -> str:
        """How the image was made, in at most 1024 characters: enough to make it again."""
        return (
            f"Synthesized by the generator of study {self.study}, SHA-256 {self.model}, "
            f"epsilon {self.epsilon:.4g} at delta {self.delta:g} for each {self.unit}, seed {self.seed}"
        )


def refused(study: str) -> RefusedError:
    """The refusal of a release without differential privacy."""
    return RefusedError(
        f"{study} is NOT PRIVATE: its images are not written as DICOM, where they could be taken for safe "
        "ones; train with privacy.mode = dp, or use --format npz or png inside the hospital"
    )
