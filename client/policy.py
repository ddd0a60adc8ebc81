"""Which rules of a hospital's policy a study breaks. Pure: no disk, no ledger.

A *public* rule looks at the study and at site.toml alone, and the coordinator is told of it. A *private* one
looks at patients; the coordinator is told "not approved", and the site's person sees the rule by its name.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from client.site_file import PolicySection, SiteFile
from medgan_core.config import Study
from medgan_core.errors import ConfigError, PolicyError
from medgan_core.messages import Phase, metrics_of
from medgan_core.privacy.accounting import at_sites, epsilon, locally_at_sites
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.proposals import NOT_APPROVED


@dataclass(frozen=True)
class Rule:
    """A broken rule: its name as in site.toml, whether it is about public facts, and what is wrong."""

    name: str
    public: bool
    message: str

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"


@dataclass(frozen=True)
class Cost:
    """ε of a whole study for one patient at the study's δ, repeats of secure sums included.

    `trusted` if the other sites do not all work together with the coordinator, `local` whatever they do.
    """

    trusted: float
    local: float

    @classmethod
    def of(cls, plan: PrivacyPlan) -> "Cost":
        """The larger of training and held-out patients, over the sites that a patient may be at."""
        holds, sites = [plan.holds(name) for name in ("training", "held_out")], plan.max_sites_per_patient
        return cls(
            max(epsilon(at_sites(events, sites), plan.delta) for events in holds),
            max(epsilon(locally_at_sites(events, sites), plan.delta) for events in holds),
        )

    def counted(self, policy: PolicySection) -> float:
        """The one that this site counts."""
        return self.trusted if policy.trust_secure_sum else self.local


@dataclass(frozen=True)
class Facts:
    """What a site's person may see of the data, and nobody else: counts of patients and images.

    `left_out` says why images take no part, with how many; `missing` are classes without a patient.
    """

    patients: int
    held_out: int
    images: int
    unit: str
    left_out: dict[str, int]
    missing: tuple[str, ...] = ()


def broken_by_study(config: SiteFile, study: Study) -> tuple[Rule, ...]:
    """The public rules that need no plan: they are checked before noise is searched for."""
    return tuple(rule for check in _OF_STUDY for rule in check(config, study))


def broken_by_plan(config: SiteFile, plan: PrivacyPlan) -> tuple[Rule, ...]:
    """The public rules on noise and cost."""
    return tuple(_noise(config.policy, plan)) if plan.private else ()


def broken_rules(config: SiteFile, study: Study, plan: PrivacyPlan) -> tuple[Rule, ...]:
    """All public rules that a study breaks here, in the order of site.toml."""
    return broken_by_study(config, study) + broken_by_plan(config, plan)


def broken_by_data(config: SiteFile, facts: Facts) -> tuple[Rule, ...]:
    """The private rules: what only this site may know."""
    return tuple(_data(config, facts))


def refusal(rules: tuple[Rule, ...]) -> PolicyError:
    """The error for broken rules: all of them for the site's person, the public ones for the coordinator."""
    told = "; ".join(str(rule) for rule in rules if rule.public)
    return PolicyError("; ".join(map(str, rules)), told or NOT_APPROVED)


def _limits(config: SiteFile, study: Study) -> Iterator[Rule]:
    for name, value, what in _limited(study):
        limit = getattr(config.policy, name)
        if value > limit:
            yield Rule(name, True, f"{what} of {value:g} asked for, {limit:g} at most")
    repeats, most = study.privacy.max_repeats, config.policy.max_repeats
    if study.privacy.secure_sum and repeats > most:
        told = f"{repeats} repeats of a secure sum asked for, {most} at most"
        yield Rule("max_repeats", True, told)


def _limited(study: Study) -> Iterator[tuple[str, float, str]]:
    """What has an upper limit in site.toml: the limit's name there, the study's value, and what it is."""
    privacy, training = study.privacy, study.training
    yield "delta", privacy.delta, "delta"
    yield "largest_clip_norm", privacy.clip_norm, "the clip norm"
    yield "images_per_patient", privacy.max_images_per_patient, "images of a patient"
    yield "largest_generator_width", training.generator_width, "the generator's width"
    yield "largest_discriminator_width", training.discriminator_width, "the discriminator's width"
    yield "largest_sampling_rate", privacy.sampling_rate, "the sampling rate"
    yield "most_rounds", study.rounds, "rounds"
    yield "most_steps", study.rounds * training.discriminator_steps, "discriminator steps"


def _allowed(config: SiteFile, study: Study) -> Iterator[Rule]:
    policy = config.policy
    if study.task not in policy.tasks:
        yield Rule("tasks", True, f"{study.task} is not among {', '.join(policy.tasks)}")
    if study.data.image_size not in policy.image_sizes:
        sizes = ", ".join(map(str, policy.image_sizes))
        yield Rule("image_sizes", True, f"{study.data.image_size} pixels a side are not among {sizes}")
    leaving = metrics_of(Phase.TRAIN, study.free_fakes) if study.rounds else frozenset()
    if kept := sorted(leaving - set(policy.metrics)):
        yield Rule("metrics", True, f"{', '.join(kept)} may not leave this site")
    if study.rounds and study.share != "generator" and not policy.discriminator_may_leave:
        yield Rule(
            "discriminator_may_leave", True, f'share = "{study.share}" asked for, "generator" alone may be'
        )


def _privacy_off(config: SiteFile, study: Study) -> Iterator[Rule]:
    if not study.private and not (config.policy.privacy_off and config.data.public):
        yield Rule("privacy_off", True, "a study without privacy, for which this site has no public data")


def _declared(config: SiteFile, study: Study) -> Iterator[Rule]:
    declared = config.data.modality
    if declared and declared != study.data.modality:
        yield Rule("modality", True, f"{study.data.modality} asked for, this site has {declared}")
    if not study.data.classes:
        yield Rule("classes", True, "the study does not name its classes, which may not be read off the data")
    if study.data.split == "official" and not config.data.published:
        yield Rule("split", True, "the official split of a published set, which this site's is not")


_OF_STUDY: tuple[Callable[[SiteFile, Study], Iterator[Rule]], ...] = (
    _privacy_off,
    _limits,
    _allowed,
    _declared,
)


def _noise(policy: PolicySection, plan: PrivacyPlan) -> Iterator[Rule]:
    least = min(_multipliers(plan))
    if least < policy.least_noise_multiplier:
        yield Rule(
            "least_noise_multiplier",
            True,
            f"a noise multiplier of {least:.4g} asked for, {policy.least_noise_multiplier:g} at least",
        )
    if (cost := Cost.of(plan)).counted(policy) > policy.epsilon_per_study:
        counted = "" if policy.trust_secure_sum or not plan.rules else ", without trust in secure sums"
        yield Rule(
            "epsilon_per_study",
            True,
            f"epsilon {cost.counted(policy):.4g} asked for{counted}, {policy.epsilon_per_study:g} at most",
        )
    if plan.rules is not None and cost.local > policy.local_epsilon:
        yield Rule(
            "local_epsilon",
            True,
            f"epsilon {cost.local:.4g} without trust in secure sums, {policy.local_epsilon:g} at most",
        )


def _multipliers(plan: PrivacyPlan) -> Iterator[float]:
    yield plan.one_shot_noise_multiplier
    yield plan.evaluation_noise_multiplier
    if plan.gate:
        yield plan.gate_noise_multiplier
    if plan.attack_size:
        yield from (plan.attack_noise_multiplier, plan.control_noise_multiplier)
    if plan.rounds:
        yield plan.noise_multiplier


def _data(config: SiteFile, facts: Facts) -> Iterator[Rule]:
    policy, data = config.policy, config.data
    if facts.unit != "patient" and not (data.published or data.public):
        yield Rule("patients", False, "the images have no patients; data.patients must name a table of them")
    if facts.patients < policy.least_patients:
        yield Rule(
            "least_patients",
            False,
            f"{facts.patients} patients to train on, {policy.least_patients} at least",
        )
    if facts.held_out < policy.least_held_out:
        yield Rule(
            "least_held_out",
            False,
            f"{facts.held_out} patients to judge by, {policy.least_held_out} at least",
        )


def parse_error(error: ConfigError) -> Rule:
    """The public rule that a proposed study is one at all."""
    return Rule("study", True, str(error))
