"""What will run, and what it costs: one frozen value made of public facts.

The plan names unit, neighbours, sampler, clip norm and noise, makes the only noisy optimiser, and is what the
ledger is charged with; so the guarantee and the mechanism cannot drift apart.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Literal

from torch import nn, optim

from medgan_core.config import Study
from medgan_core.errors import ConfigError
from medgan_core.messages import AccountName, Event, Phase
from medgan_core.privacy.accounting import epsilon, smallest_noise
from medgan_core.privacy.engine import Precision, PrivateOptimizer
from medgan_core.privacy.noise import SecretRandom

Rule = Callable[..., optim.Optimizer]

_PHASES: dict[AccountName, tuple[Phase, ...]] = {
    "training": (Phase.ONE_SHOT, Phase.TRAIN),
    "held_out": (Phase.EVALUATE,),
}


@dataclass(frozen=True)
class PrivacyPlan:
    """The mechanisms of a run at one site. Noise multipliers are in units of the sensitivity; 0 is no noise.

    `sampling_rate` q: each patient joins each discriminator step with this probability. `nominal_batch`: the
    public divisor of the noisy gradient sum. `steps` are those of one round.
    """

    private: bool
    unit: Literal["patient", "image"]
    neighbours: Literal["add/remove"]
    delta: float
    clip_norm: float
    sampling_rate: float
    nominal_batch: float
    max_images_per_patient: int
    max_sites_per_patient: int
    rounds: int
    steps: int
    noise_multiplier: float
    one_shot_noise_multiplier: float
    evaluation_noise_multiplier: float

    @classmethod
    def of(cls, study: Study, unit: Literal["patient", "image"]) -> "PrivacyPlan":
        """The plan of a study, from public facts alone: noise is searched for where the study gives ε.

        Raises ConfigError where no noise reaches the ε that is asked for.
        """
        asked = study.privacy
        one_shot, steps, evaluation = _noise(study) if study.private else (0.0, 0.0, 0.0)
        return cls(
            private=study.private,
            unit=unit,
            neighbours="add/remove",
            delta=asked.delta,
            clip_norm=asked.clip_norm,
            sampling_rate=asked.sampling_rate,
            nominal_batch=study.nominal_batch,
            max_images_per_patient=asked.max_images_per_patient,
            max_sites_per_patient=asked.max_sites_per_patient,
            rounds=study.rounds,
            steps=study.training.discriminator_steps,
            noise_multiplier=steps,
            one_shot_noise_multiplier=one_shot,
            evaluation_noise_multiplier=evaluation,
        )

    def event(self, phase: Phase) -> Event:
        """What one round of this phase does to its account."""
        if phase is Phase.ONE_SHOT:
            return Event(self.one_shot_noise_multiplier, 1.0, 1)
        if phase is Phase.EVALUATE:
            return Event(self.evaluation_noise_multiplier, 1.0, 1)
        return Event(self.noise_multiplier, self.sampling_rate, self.steps)

    @staticmethod
    def account(phase: Phase) -> AccountName:
        """Whose budget a phase draws on: evaluation sees held-out patients alone."""
        return "held_out" if phase is Phase.EVALUATE else "training"

    def events(self, account: AccountName) -> tuple[Event, ...]:
        """All events of the run on one account, in their order: what a hold reserves."""
        rounds = {Phase.ONE_SHOT: 1, Phase.TRAIN: self.rounds, Phase.EVALUATE: 1}
        return tuple(self.event(phase) for phase in _PHASES[account] for _ in range(rounds[phase]))

    def epsilon(self) -> float:
        """ε of the run: the larger of its two accounts, composed over the sites a patient may be at."""
        accounts: tuple[AccountName, ...] = ("training", "held_out")
        return max(epsilon(self.events(name) * self.max_sites_per_patient, self.delta) for name in accounts)

    def digest(self) -> str:
        """SHA-256 of the plan, bound into every receipt."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def optimizer(
        self,
        network: nn.Module,
        make: Rule | Mapping[str, Rule],
        random: SecretRandom,
        *,
        physical_batch: int | None = None,
        precision: Precision = "float32",
    ) -> PrivateOptimizer:
        """The optimiser through which data may reach weights of `network`; `make(parameters)` is its rule.

        Several networks come in a ModuleDict and each has its own rule: by its name, or all of the same kind.
        """
        networks = dict(network.items()) if isinstance(network, nn.ModuleDict) else {"": network}
        makers = make if isinstance(make, Mapping) else dict.fromkeys(networks, make)
        return PrivateOptimizer(
            network,
            [makers[name](one.parameters()) for name, one in networks.items()],
            clip_norm=self.clip_norm if self.private else None,
            noise_multiplier=self.noise_multiplier,
            nominal_batch=self.nominal_batch,
            random=random,
            physical_batch=physical_batch,
            precision=precision,
        )


@lru_cache(maxsize=64)
def _noise(study: Study) -> tuple[float, float, float]:
    """Noise multipliers of the one-shot query, the steps and the evaluation.

    The one-shot query alone is given `one_shot_share` of ε, all of it when there are no rounds; the steps get
    what composition leaves.
    """
    asked, rounds, steps = study.privacy, study.rounds, study.training.discriminator_steps
    copies = asked.max_sites_per_patient
    share = asked.one_shot_share if rounds else 1.0

    def search(name: str, events: Callable[[float], tuple[Event, ...]], target: float) -> float:
        try:
            return smallest_noise(events, target, asked.delta)
        except ValueError as error:
            raise ConfigError(name, target, f"a larger value or fewer rounds: {error}") from None

    def single(sigma: float) -> tuple[Event, ...]:
        return (Event(sigma, 1.0, 1),) * copies

    evaluation = search("evaluation.epsilon", single, study.evaluation.epsilon or asked.epsilon)
    one_shot = asked.one_shot_noise_multiplier or search("privacy.epsilon", single, share * asked.epsilon)

    def training(sigma: float) -> tuple[Event, ...]:
        return single(one_shot) + (Event(sigma, asked.sampling_rate, rounds * steps),) * copies

    if asked.noise_multiplier is not None or not rounds:
        return one_shot, asked.noise_multiplier or 1.0, evaluation
    return one_shot, search("privacy.epsilon", training, asked.epsilon), evaluation
