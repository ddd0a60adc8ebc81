"""A study whose noise is searched for, two sites of made-up images, and methods of a few steps."""

from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from medgan_core.codec import unflatten
from medgan_core.config import Study, parse_study
from medgan_core.data.source import Site
from medgan_core.privacy.noise import SeededRandom
from medgan_core.record import RunFolder
from simulations.benchmarks.baselines import METHODS
from simulations.benchmarks.baselines.dp_gan import SETUP as DP_GAN
from simulations.benchmarks.baselines.dp_gan import dp_gan
from simulations.benchmarks.baselines.dp_merf import Setup, dp_merf
from simulations.benchmarks.baselines.fedavg_local import SETUP as FEDAVG_LOCAL
from simulations.benchmarks.baselines.fedavg_local import fedavg_local
from simulations.benchmarks.baselines.method import Train
from simulations.hospitals import Launch, open_sites
from tests.simulations.making import TINY, write_set

_FIXED_NOISE = ("privacy.noise_multiplier", "privacy.one_shot_noise_multiplier", "evaluation.epsilon")
_FEW = {
    "training.discriminator_steps": 2,
    "training.latent_size": 4,
    "training.generator_width": 4,
    "training.discriminator_width": 4,
    "training.generator_every": 1,
    "training.batch": 4,
}
_FEW_OF_MERF = Setup(frequencies=8, iterations=3, batch=8, hidden=8, channels=(4, 4))

SMALL: dict[str, Train] = {name: method.train for name, method in METHODS.items()} | {
    "dp-merf": partial(dp_merf, setup=_FEW_OF_MERF),
    "dp-gan": partial(dp_gan, setup={**DP_GAN, **_FEW, "training.discriminator_steps": 4}, batch=36),
    "fedavg-local": partial(fedavg_local, setup={**FEDAVG_LOCAL, **_FEW, "rounds": 2}, batch=12),
}
"""All methods by name, those with settings of their own at a few steps.

Both that start from scratch have the same share of patients in as many steps, so that one search finds their
noise.
"""


def small_study(**changes: Any) -> Study:
    """The tiny study at ε = 8 and three sites, without fixed noise; keys with two underscores for a dot."""
    body = {key: value for key, value in TINY.items() if key not in _FIXED_NOISE}
    asked = {
        "privacy.sampling_rate": 0.6,
        "privacy.epsilon": 8.0,
        "sites.epsilon_cap": 8.0,
        "privacy.max_repeats": 0,
        "sites.count": 3,
    }
    changed = {key.replace("__", "."): value for key, value in changes.items()}
    return parse_study(unflatten({**body, **asked, **changed}))


def small_file(folder: Path, **changes: Any) -> Path:
    """The same as a file."""
    path = folder / "small.toml"
    path.write_text(small_study(**changes).to_toml())
    return path


@cache
def small_sites() -> tuple[Site, ...]:
    """The sites of the small study, declared public."""
    with TemporaryDirectory() as folder:
        root = write_set(Path(folder) / "data", patients=48)
        run = RunFolder.create(Path(folder), small_study())
        return open_sites(small_study(), run, Launch(data=str(root), public=True))


class Silence(SeededRandom):
    """Coins, but no noise."""

    def normal(self, count: int) -> Tensor:
        return torch.zeros(count, dtype=torch.float64)

    def discrete(self, count: int, deviation: float) -> Any:
        return super().discrete(count, 0.0)


def silent(site: str, round_number: int) -> Silence:
    """A source without noise for each site and round."""
    return Silence(1000 * round_number + sum(site.encode()))
