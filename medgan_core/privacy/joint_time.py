"""How long joint discriminator steps would take, from public facts alone: it decides if they are offered.

Each step is a secure sum of its own. At every site it draws one discrete Gaussian for each weight, and it
sends five messages there and back.
"""

from medgan_core.config import Study
from medgan_core.errors import ConfigError

GAUSSIANS_PER_SECOND = 60_000
"""Discrete Gaussians that one core draws by OpenDP (measured)."""
_SITE_SECONDS = 0.1
"""A site's gradient, ledger and files in one step (measured on one core, small discriminators)."""
_MESSAGES_SECONDS = 0.1
"""The five stages and the coordinator's own part of a step, where messages take no time (measured)."""


def joint_seconds(study: Study) -> float:
    """Seconds that all joint steps of a study would take where its sites work in turn, as on one machine."""
    steps = study.rounds * study.training.discriminator_steps
    site = study.discriminator_size / GAUSSIANS_PER_SECOND + _SITE_SECONDS
    return steps * (study.sites.count * site + _MESSAGES_SECONDS)


def check_time(study: Study) -> None:
    """ConfigError where a study asks for joint steps that would take longer than it allows."""
    if study.joint and (predicted := joint_seconds(study)) > study.rounds_time_limit:
        raise ConfigError(
            "share",
            "gradient",
            "fewer steps, a smaller discriminator or a larger rounds_time_limit: the rounds would take about "
            f"{predicted:.0f} s, the limit is {study.rounds_time_limit:g} s. With share = both the rounds "
            "have each site's own full noise",
        )
