"""What will run, and what it costs: one frozen value made of public facts.

The plan names unit, neighbours, sampler, clip norm and noise, makes the only noisy optimiser, and is what the
ledger is charged with; so the guarantee and the mechanism cannot drift apart.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from typing import Literal

from torch import Tensor, nn, optim

from medgan_core.config import GATE_SIZE, Precision, Study
from medgan_core.errors import ConfigError
from medgan_core.messages import AccountName, Event, Phase, last_phases, phase_at
from medgan_core.privacy.accounting import at_sites, epsilon, locally_at_sites
from medgan_core.privacy.book_keeping import ExampleLoss
from medgan_core.privacy.engine import PrivateOptimizer, clipped_grid_sum
from medgan_core.privacy.noise import SecretRandom
from medgan_core.privacy.noise_levels import Noise, joint_event, noise_of, sum_event
from medgan_core.privacy.noise_watch import NoiseWatch
from medgan_core.privacy.sum_rules import SumRules

Rule = Callable[..., optim.Optimizer]

_PHASES: dict[AccountName, tuple[Phase, ...]] = {
    "training": (Phase.ONE_SHOT, Phase.TRAIN, Phase.ATTACK),
    "held_out": (Phase.GATE, Phase.EVALUATE, Phase.CONTROL),
}


@dataclass(frozen=True)
class PrivacyPlan:
    """The mechanisms of a run at one site. Noise multipliers are in units of the sensitivity; 0 is no noise.

    `sampling_rate` q: each patient joins each discriminator step with this probability. `nominal_batch`: the
    public divisor of the noisy gradient sum. `steps` are those of one round.

    With `gate` a query of held-out patients decides between the one-shot and the refined generator. With
    `attack_size` above 0 two queries of so many numbers tell how attacks on the generator fare; training
    patients join the first with the probability `attack_rate`, held-out ones the second with `control_rate`.

    Under secure sum (`sum_threshold` above 0) the multipliers of the one-shot query, gate and evaluation are
    those of the noise that the rules `sum_…` leave in a sum; `sizes` are the numbers in it. Such a round may
    be charged `max_repeats` times more. The noise of the steps is each site's own, unless `gradient_size`
    says how many weights the discriminator has: then each step is a round of its own, in which the sites'
    gradients are summed securely and `noise_multiplier` is that of the noise left in the sum.

    A `first_round` of 1 is that of a task whose fakes depend on patients: there is no one-shot query.
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
    first_round: int = 0
    attack_size: int = 0
    attack_rate: float = 0.0
    control_rate: float = 0.0
    attack_noise_multiplier: float = 0.0
    control_noise_multiplier: float = 0.0

    @classmethod
    def of(cls, study: Study, unit: Literal["patient", "image"]) -> "PrivacyPlan":
        """The plan of a study, from public facts alone: noise is searched for where the study gives ε.

        Raises ConfigError where no noise reaches the ε that is asked for, or the strategy is undecided.
        """
        asked = study.privacy
        if study.strategy == "auto":
            raise ConfigError("strategy", "auto", "one_shot or refine: ask the planner first")
        noise = noise_of(study) if study.private else Noise()
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
            first_round=study.first_round,
            attack_size=study.attack_size,
            attack_rate=study.attack_rate if study.attacks else 0.0,
            control_rate=study.control_rate if study.attacks else 0.0,
            attack_noise_multiplier=noise.attack,
            control_noise_multiplier=noise.control,
            **_of_sums(study),
        )

    def event(self, phase: Phase) -> Event:
        """What one round of this phase does to its account."""
        if phase is Phase.TRAIN:
            if self.rules is not None and self.gradient_size:
                return joint_event(self.noise_multiplier, self.sampling_rate, self.rules, self.gradient_size)
            return Event(self.noise_multiplier, self.sampling_rate, self.steps)
        sigma, size = {
            Phase.ONE_SHOT: (self.one_shot_noise_multiplier, self.one_shot_size),
            Phase.GATE: (self.gate_noise_multiplier, GATE_SIZE),
            Phase.EVALUATE: (self.evaluation_noise_multiplier, self.evaluation_size),
            Phase.ATTACK: (self.attack_noise_multiplier, self.attack_size),
            Phase.CONTROL: (self.control_noise_multiplier, self.attack_size),
        }[phase]
        rate = {Phase.ATTACK: self.attack_rate, Phase.CONTROL: self.control_rate}.get(phase, 1.0)
        if self.rules is None:
            return Event(sigma, rate, 1)
        return sum_event(sigma, rate, self.rules, size, self.max_images_per_patient)

    def deviation(self, phase: Phase) -> float:
        """The standard deviation of what this site adds to each number in a round of this phase."""
        event = self.event(phase)
        if event.shares:
            return event.share_deviation
        return event.noise_multiplier * (self.clip_norm if phase is Phase.TRAIN else 1.0)

    def watch(self, phase: Phase) -> NoiseWatch:
        """A watch over the noise of one round; without privacy it sees nothing."""
        return NoiseWatch(self.event(phase), self.deviation(phase) if self.private else 0.0)

    def phase(self, number: int) -> Phase | None:
        """The phase of a round; None for a number that the run does not have."""
        return phase_at(number, self.rounds, self.gate, self.first_round, self.attack_size > 0)

    @property
    def last_round(self) -> int:
        """The number of the run's last round."""
        return self.rounds + len(last_phases(self.gate, self.attack_size > 0))

    @property
    def rules(self) -> SumRules | None:
        """Those of secure sums; None where every site sends its own noisy sums."""
        if not self.sum_threshold:
            return None
        return SumRules(self.sum_sites, self.sum_drop, self.sum_collude, self.sum_threshold)

    def summed(self, phase: Phase) -> bool:
        """Whether a phase goes through a secure sum."""
        return self.rules is not None and (phase is not Phase.TRAIN or self.gradient_size > 0)

    @staticmethod
    def account(phase: Phase) -> AccountName:
        """Whose budget a phase draws on: gate, evaluation and control see held-out patients alone."""
        return "held_out" if phase in _PHASES["held_out"] else "training"

    def events(self, account: AccountName) -> tuple[Event, ...]:
        """All events of the run on one account, in their order, where no round is repeated."""
        return self._events(account, repeats=0)

    def holds(self, account: AccountName) -> tuple[Event, ...]:
        """What a hold reserves: all events, those of secure sums with their repeats."""
        return self._events(account, repeats=self.max_repeats)

    def _events(self, account: AccountName, repeats: int) -> tuple[Event, ...]:
        rounds = dict.fromkeys(last_phases(self.gate, self.attack_size > 0), 1)
        rounds |= {Phase.ONE_SHOT: int(not self.first_round), Phase.TRAIN: self.rounds}
        times = {phase: count * (1 + repeats * self.summed(phase)) for phase, count in rounds.items()}
        return tuple(self.event(phase) for phase in _PHASES[account] for _ in range(times.get(phase, 0)))

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
        free_parts: Sequence[str] = (),
        watch: NoiseWatch | None = None,
    ) -> PrivateOptimizer:
        """The optimiser through which data may reach weights of `network`; `make(parameters)` is its rule.

        Several networks come in a ModuleDict and each has its own rule: by its name, or all of the same kind.
        No patient reaches its `free_parts`, by their dotted names.
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
            free_parts=[network.get_submodule(name) for name in free_parts],
            watch=watch,
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
