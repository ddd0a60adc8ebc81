"""What will run, and what it costs: one frozen value made of public facts.

The plan names unit, neighbours, sampler, clip norm and noise, makes the only noisy optimiser, and is what the
ledger is charged with; so the guarantee and the mechanism cannot drift apart.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from hashlib import sha256
from typing import Literal, NamedTuple

from torch import Tensor, nn, optim

from medgan_core.config import GATE_SIZE, Precision, Study
from medgan_core.errors import ConfigError
from medgan_core.messages import AccountName, Event, Phase, phase_at
from medgan_core.privacy.accounting import at_sites, epsilon, locally_at_sites, smallest_noise
from medgan_core.privacy.book_keeping import ExampleLoss
from medgan_core.privacy.engine import PrivateOptimizer, clipped_grid_sum
from medgan_core.privacy.grid import room, sensitivity_of_gradients, share_deviation
from medgan_core.privacy.noise import SecretRandom
from medgan_core.privacy.sum_rules import SumRules

Rule = Callable[..., optim.Optimizer]
_Mechanism = Callable[[float], tuple[Event, ...]]

_PHASES: dict[AccountName, tuple[Phase, ...]] = {
    "training": (Phase.ONE_SHOT, Phase.TRAIN),
    "held_out": (Phase.GATE, Phase.EVALUATE),
}
_SUMMED = (Phase.ONE_SHOT, Phase.GATE, Phase.EVALUATE)


@dataclass(frozen=True)
class PrivacyPlan:
    """The mechanisms of a run at one site. Noise multipliers are in units of the sensitivity; 0 is no noise.

    `sampling_rate` q: each patient joins each discriminator step with this probability. `nominal_batch`: the
    public divisor of the noisy gradient sum. `steps` are those of one round.

    With `gate` a query of held-out patients decides between the one-shot and the refined generator.

    Under secure sum (`sum_threshold` above 0) the multipliers of the one-shot query, gate and evaluation are
    those of the noise that the rules `sum_…` leave in a sum; `sizes` are the numbers in it. Such a round may
    be charged `max_repeats` times more. The noise of the steps is each site's own, unless `gradient_size`
    says how many weights the discriminator has: then each step is a round of its own, in which the sites'
    gradients are summed securely and `noise_multiplier` is that of the noise left in the sum.
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
    sum_sites: int = 0
    sum_drop: int = 0
    sum_collude: int = 0
    sum_threshold: int = 0
    max_repeats: int = 0
    one_shot_size: int = 0
    evaluation_size: int = 0
    gate: bool = False
    gate_noise_multiplier: float = 0.0
    gradient_size: int = 0

    @classmethod
    def of(cls, study: Study, unit: Literal["patient", "image"]) -> "PrivacyPlan":
        """The plan of a study, from public facts alone: noise is searched for where the study gives ε.

        Raises ConfigError where no noise reaches the ε that is asked for, or the strategy is undecided.
        """
        asked = study.privacy
        if study.strategy == "auto":
            raise ConfigError("strategy", "auto", "one_shot or refine: ask the planner first")
        noise = _noise(study) if study.private else _Noise()
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
            rounds=study.training_rounds,
            steps=1 if study.joint else study.training.discriminator_steps,
            noise_multiplier=noise.steps,
            one_shot_noise_multiplier=noise.one_shot,
            evaluation_noise_multiplier=noise.evaluation,
            gate=study.gated,
            gate_noise_multiplier=noise.gate,
            **_of_sums(study),
        )

    def event(self, phase: Phase) -> Event:
        """What one round of this phase does to its account."""
        if phase is Phase.TRAIN:
            if self.rules is not None and self.gradient_size:
                return _joint_event(self.noise_multiplier, self.sampling_rate, self.rules, self.gradient_size)
            return Event(self.noise_multiplier, self.sampling_rate, self.steps)
        sigma, size = {
            Phase.ONE_SHOT: (self.one_shot_noise_multiplier, self.one_shot_size),
            Phase.GATE: (self.gate_noise_multiplier, GATE_SIZE),
            Phase.EVALUATE: (self.evaluation_noise_multiplier, self.evaluation_size),
        }[phase]
        if self.rules is None:
            return Event(sigma, 1.0, 1)
        return _sum_event(sigma, self.rules, size, self.max_images_per_patient)

    def phase(self, number: int) -> Phase | None:
        """The phase of a round; None for a number that the run does not have."""
        return phase_at(number, self.rounds, self.gate)

    @property
    def rules(self) -> SumRules | None:
        """Those of secure sums; None where every site sends its own noisy sums."""
        if not self.sum_threshold:
            return None
        return SumRules(self.sum_sites, self.sum_drop, self.sum_collude, self.sum_threshold)

    def summed(self, phase: Phase) -> bool:
        """Whether a phase goes through a secure sum."""
        return self.rules is not None and (phase in _SUMMED or self.gradient_size > 0)

    @staticmethod
    def account(phase: Phase) -> AccountName:
        """Whose budget a phase draws on: gate and evaluation see held-out patients alone."""
        return "held_out" if phase in _PHASES["held_out"] else "training"

    def events(self, account: AccountName) -> tuple[Event, ...]:
        """All events of the run on one account, in their order, where no round is repeated."""
        return self._events(account, repeats=0)

    def holds(self, account: AccountName) -> tuple[Event, ...]:
        """What a hold reserves: all events, those of secure sums with their repeats."""
        return self._events(account, repeats=self.max_repeats)

    def _events(self, account: AccountName, repeats: int) -> tuple[Event, ...]:
        rounds = {Phase.ONE_SHOT: 1, Phase.TRAIN: self.rounds, Phase.GATE: int(self.gate), Phase.EVALUATE: 1}
        times = {phase: count * (1 + repeats * self.summed(phase)) for phase, count in rounds.items()}
        return tuple(self.event(phase) for phase in _PHASES[account] for _ in range(times[phase]))

    def epsilon(self) -> float:
        """ε of the run: the larger of its two accounts, composed over the sites a patient may be at.

        Under secure sum it is the trusted one, without repeats.
        """
        return max(
            epsilon(at_sites(self.events(name), self.max_sites_per_patient), self.delta) for name in _PHASES
        )

    def local_epsilon(self) -> float:
        """The same where no other site and no server is trusted; without secure sum it is the same ε."""
        return max(
            epsilon(locally_at_sites(self.events(name), self.max_sites_per_patient), self.delta)
            for name in _PHASES
        )

    def digest(self) -> str:
        """SHA-256 of the plan, bound into every receipt; fields of secure sums count where they are set."""
        optional = {item.name: item.default for item in fields(self) if item.default == 0}
        told = {name: value for name, value in asdict(self).items() if value != optional.get(name)}
        return sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def gradient_sum(
        self,
        network: nn.Module,
        loss: ExampleLoss,
        images: Tensor,
        labels: Tensor,
        owner: Tensor,
        *,
        physical_batch: int | None = None,
        precision: Precision = "float32",
    ) -> Tensor:
        """What the patients sampled for a joint step add to its secure sum, without noise: int64 [weights].

        Raises ConfigError for a plan without joint steps, or of another discriminator.
        """
        size = sum(p.numel() for p in network.parameters() if p.requires_grad)
        if not (self.private and self.summed(Phase.TRAIN) and size == self.gradient_size):
            raise ConfigError(
                "gradient_size", self.gradient_size, f"a plan that sums {size} weights securely"
            )
        return clipped_grid_sum(
            network,
            loss,
            images,
            labels,
            owner,
            self.clip_norm,
            physical_batch=physical_batch,
            precision=precision,
        )

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


def _of_sums(study: Study) -> dict[str, int]:
    """The plan's fields on secure sums: none without them. ConfigError where the rules do not go together."""
    asked = study.privacy
    if not asked.secure_sum:
        return {}
    rules, sizes = SumRules.of(study.sites.count, asked.collude, asked.drop), study.sizes_of_sums
    return {
        "sum_sites": rules.sites,
        "sum_drop": rules.drop,
        "sum_collude": rules.collude,
        "sum_threshold": rules.threshold,
        "max_repeats": asked.max_repeats,
        "one_shot_size": sizes[0],
        "evaluation_size": sizes[1],
        "gradient_size": study.discriminator_size if study.joint else 0,
    }


def _sum_event(sigma: float, rules: SumRules, size: int, images: int) -> Event:
    return _shared_event(sigma, 1.0, rules, size, share_deviation(sigma, rules.shares, images, size))


def _joint_event(sigma: float, sampling_rate: float, rules: SumRules, size: int) -> Event:
    deviation = sigma * sensitivity_of_gradients(size) / math.sqrt(rules.shares)
    return _shared_event(sigma, sampling_rate, rules, size, deviation)


def _shared_event(sigma: float, sampling_rate: float, rules: SumRules, size: int, deviation: float) -> Event:
    if not room(deviation * math.sqrt(rules.sites)):
        raise ConfigError("noise multiplier", sigma, "less noise: a secure sum would wrap around")
    return Event(sigma, sampling_rate, 1, rules.shares, size, deviation)


class _Noise(NamedTuple):
    """Noise multipliers."""

    one_shot: float = 0.0
    steps: float = 0.0
    gate: float = 0.0
    evaluation: float = 0.0


@lru_cache(maxsize=64)
def _noise(study: Study) -> _Noise:
    """The noise that a study's ε asks for.

    The one-shot query alone is given `one_shot_share` of ε, all of it when there are no rounds; the steps get
    what composition leaves. So it is with the gate, its `gate_share`, and the evaluation.
    """
    asked, steps = study.privacy, study.rounds * study.training.discriminator_steps
    (first_size, last_size), share = study.sizes_of_sums, asked.one_shot_share if steps else 1.0
    first, choice, last = (_query(study, size) for size in (first_size, GATE_SIZE, last_size))
    judging = study.evaluation.epsilon or asked.epsilon
    gate = 0.0
    if study.gated:
        gate = _search(study, "evaluation.epsilon", choice, study.evaluation.gate_share * judging)
    chosen = choice(gate) if gate else ()
    evaluation = _search(study, "evaluation.epsilon", lambda sigma: chosen + last(sigma), judging)
    one_shot = asked.one_shot_noise_multiplier
    if one_shot is None:
        one_shot = _search(study, "privacy.epsilon", first, share * asked.epsilon)
    start = first(one_shot)

    def training(sigma: float) -> tuple[Event, ...]:
        return start + at_sites((_steps(study, sigma),), asked.max_sites_per_patient)

    if asked.noise_multiplier is not None or not steps:
        return _Noise(one_shot, asked.noise_multiplier or 1.0, gate, evaluation)
    return _Noise(one_shot, _search(study, "privacy.epsilon", training, asked.epsilon), gate, evaluation)


def _steps(study: Study, sigma: float) -> Event:
    """All discriminator steps of a run, by their noise multiplier."""
    rate, steps = study.privacy.sampling_rate, study.rounds * study.training.discriminator_steps
    rules = _rules(study)
    if rules is None or not study.joint:
        return Event(sigma, rate, steps)
    return replace(_joint_event(sigma, rate, rules, study.discriminator_size), steps=steps)


def _rules(study: Study) -> SumRules | None:
    asked = study.privacy
    return SumRules.of(study.sites.count, asked.collude, asked.drop) if asked.secure_sum else None


def _search(study: Study, name: str, events: _Mechanism, target: float) -> float:
    """The smallest noise multiplier that keeps ε within `target`; ConfigError if there is none."""
    try:
        return smallest_noise(events, target, study.privacy.delta)
    except ValueError as error:
        raise ConfigError(name, target, f"a larger value or fewer rounds: {error}") from None


def _query(study: Study, size: int) -> _Mechanism:
    """The events, by its noise multiplier, of one query of so many numbers at all sites of a patient."""
    asked = study.privacy
    rules = _rules(study)

    def events(sigma: float) -> tuple[Event, ...]:
        images = asked.max_images_per_patient
        event = _sum_event(sigma, rules, size, images) if rules else Event(sigma, 1.0, 1)
        return at_sites((event,), asked.max_sites_per_patient)

    return events
