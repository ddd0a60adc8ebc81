"""What benchmarks of real processes play: the phantoms at two hospitals, small enough for any machine."""

from collections.abc import Sequence

from medgan_core.config import Study, load_study
from simulations.shipped import study_path

_FEW = (
    "sites.count=2",
    "sites.nominal_patients=40",
    "phantoms.patients=40",
    "phantoms.pixels=32",
    "privacy.noise_multiplier=4.0",
    "privacy.one_shot_noise_multiplier=4.0",
    "evaluation.epsilon=2.0",
    "evaluation.reports=false",
    "evaluation.attack=false",
)


def two_hospitals(overrides: Sequence[str]) -> Study:
    """The study, with settings over it as `--set` takes them."""
    return load_study(study_path("phantoms"), [*_FEW, *overrides])
