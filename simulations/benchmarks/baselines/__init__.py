"""The methods that the benchmark of utility compares, by their names on the command line."""

from simulations.benchmarks.baselines.dp_gan import DP_GAN
from simulations.benchmarks.baselines.dp_merf import DP_MERF
from simulations.benchmarks.baselines.fedavg_local import FEDAVG_LOCAL
from simulations.benchmarks.baselines.medgan import (
    MEDGAN,
    MEDGAN_ONE_SHOT,
    MEDGAN_ONE_SHOT_SUMMED,
    MEDGAN_SUMMED,
)
from simulations.benchmarks.baselines.method import Method
from simulations.benchmarks.baselines.pooled import POOLED
from simulations.benchmarks.baselines.real import REAL

METHODS: dict[str, Method] = {
    "medgan": MEDGAN,
    "medgan-one-shot": MEDGAN_ONE_SHOT,
    "medgan-sum": MEDGAN_SUMMED,
    "medgan-one-shot-sum": MEDGAN_ONE_SHOT_SUMMED,
    "pooled": POOLED,
    "dp-merf": DP_MERF,
    "dp-gan": DP_GAN,
    "fedavg-local": FEDAVG_LOCAL,
    "real": REAL,
}
