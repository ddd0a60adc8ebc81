"""Which strategy can a study afford? From public facts alone, before any data is touched.

The one-shot query and the adversarial rounds compete for one ε. What the noise does to each is known before:
every class's mean embedding has a length of at most 1, and a patient moves a discriminator's step by at most
the clip norm. So noise is told beside these bounds, and rounds are recommended where it leaves something of
the discriminator's gradient.
"""

import math
from dataclasses import dataclass
from typing import Literal

from medgan_core.config import Study
from medgan_core.errors import ConfigError
from medgan_core.messages import Phase
from medgan_core.privacy.accounting import epsilon, locally_at_sites
from medgan_core.privacy.grid import total_deviation
from medgan_core.privacy.joint_time import joint_seconds
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.privacy.sum_rules import SumRules

Strategy = Literal["one_shot", "refine"]
Noise = Literal["local", "secure", "pooled"]

ROUND_NOISE = 0.05
"""How long the noise in a round's mean gradient may be, in clip norms, for rounds to be worth their ε.

So long is what a round has to learn: on two public sets at ε = 10 the mean over a round and all sites of the
gradient, real and fake terms together and without its noise, had a length of 0.015 to 0.03 clip norms
(PneumoniaMNIST, three sites) and 0.047 (MNIST, ten sites). Where noise is longer, most of a round is noise:
with 0.15 the rounds on PneumoniaMNIST changed accuracy and AUC by no more than chance does.
"""


@dataclass(frozen=True)
class Outlook:
    """What one strategy would have. Only `local` and `secure` can be chosen: `pooled` is the ceiling.

    `embedding_noise` is the standard deviation of the noise in each coordinate of a class's mean embedding,
    by nominal sizes; `embedding_ratio` the length of that noise, of an embedding of length 1 at most.
    `step_noise` is the same in each weight of one discriminator step, averaged over the sites, and
    `step_ratio` its length in clip norms; in `round_ratio` the steps of a round are averaged too. Without
    rounds these three are None.
    """

    strategy: Strategy
    noise: Noise
    plan: PrivacyPlan
    epsilon: float
    local_epsilon: float
    embedding_noise: float
    embedding_ratio: float
    step_noise: float | None = None
    step_ratio: float | None = None
    round_ratio: float | None = None


@dataclass(frozen=True)
class Advice:
    """The outlooks of all strategies, the recommended one, and why, a line each."""

    outlooks: tuple[Outlook, ...]
    strategy: Strategy
    reasons: tuple[str, ...]

    def of(self, strategy: Strategy, noise: Noise) -> Outlook | None:
        """One outlook; None where there is none, such as a secure sum of two sites."""
        return next((o for o in self.outlooks if (o.strategy, o.noise) == (strategy, noise)), None)


def advise(study: Study, weights: int) -> Advice:
    """Compare the strategies of a study. `weights` is the number of the discriminator's.

    Raises ConfigError where the classes are not declared, or no noise reaches ε.
    """
    if not study.data.classes:
        raise ConfigError("data.classes", (), "the classes by name: the planner reads no data")
    rounds = (0, study.rounds) if study.rounds else (0,)
    noises = _noises(study)
    outlooks = tuple(_outlook(study, number, noise, weights) for number in rounds for noise in noises)
    advice = Advice(outlooks, "one_shot", ())
    refined = advice.of("refine", "secure" if study.privacy.secure_sum else "local")
    fits = refined is not None and refined.round_ratio is not None and refined.round_ratio <= ROUND_NOISE
    strategy: Strategy = "refine" if fits else "one_shot"
    reasons = (_why(refined), *_on_sums(study, advice, strategy), *_on_joint_steps(study))
    return Advice(outlooks, strategy, reasons)


def _outlook(study: Study, rounds: int, noise: Noise, weights: int) -> Outlook:
    asked = _variant(study, rounds, noise)
    plan = PrivacyPlan.of(asked, "patient")  # the unit changes no figure
    sites, classes = asked.sites.count, len(asked.data.classes)
    patients = sites * asked.sites.nominal_patients / classes
    total = total_deviation(plan.event(Phase.ONE_SHOT), sites)
    embedding = total * math.sqrt(1 + asked.one_shot.count_weight**2) / patients
    costs = (plan.epsilon(), plan.local_epsilon())
    ratio = embedding * math.sqrt(asked.feature_count)
    if not rounds:
        return Outlook("one_shot", noise, plan, *costs, embedding, ratio)
    step = _step_noise(asked, plan)
    length = step * math.sqrt(weights)
    of_round = length / math.sqrt(asked.training.discriminator_steps)
    return Outlook("refine", noise, plan, *costs, embedding, ratio, step * plan.clip_norm, length, of_round)


def _step_noise(study: Study, plan: PrivacyPlan) -> float:
    """The noise in each weight of one discriminator step of all sites, in clip norms."""
    if study.joint:
        sites = study.sites.count
        return total_deviation(plan.event(Phase.TRAIN), sites) / (sites * plan.nominal_batch)
    averaged = math.sqrt(sum(weight**2 for weight in study.weights))
    return plan.noise_multiplier * averaged / plan.nominal_batch


def _noises(study: Study) -> tuple[Noise, ...]:
    """Those to compare: of a secure sum too, unless the study asks for none and its sites cannot have one."""
    asked = study.privacy
    try:
        SumRules.of(study.sites.count, asked.collude, asked.drop)
    except ConfigError:
        if asked.secure_sum:
            raise
        return ("local", "pooled")
    return ("local", "secure", "pooled")


def _variant(study: Study, rounds: int, noise: Noise) -> Study:
    """The study under one strategy; pooled, all patients are at one site."""
    sites, privacy = study.sites, study.privacy
    if noise == "pooled":
        pool = {
            "count": 1,
            "nominal_patients": sites.count * sites.nominal_patients,
            "weights": (),
            "quorum": 0,
        }
        sites = sites.model_copy(update=pool)
        batch = privacy.nominal_batch and privacy.nominal_batch * study.sites.count
        privacy = privacy.model_copy(update={"nominal_batch": batch, "max_sites_per_patient": 1})
    privacy = privacy.model_copy(update={"secure_sum": noise == "secure"})
    strategy = "refine" if rounds else "one_shot"
    share = study.share if rounds and noise == "secure" else "both"
    update = {"rounds": rounds, "strategy": strategy, "share": share, "sites": sites, "privacy": privacy}
    return study.model_copy(update=update)


def _why(refined: Outlook | None) -> str:
    if refined is None or refined.round_ratio is None:
        return "one_shot: the study has no adversarial rounds"
    found = "averaged over a round the noise in the discriminator's gradient is "
    found += f"{refined.round_ratio:.2g} of the clip norm"
    needed = refined.round_ratio / ROUND_NOISE
    if refined.round_ratio <= ROUND_NOISE:
        return f"refine: {found}, within the {ROUND_NOISE:g} that a round has to learn"
    return (
        f"one_shot: {found}, above the {ROUND_NOISE:g} that a round has to learn; batches "
        f"{needed:.2g} times as large, of as many more patients, would bring it there"
    )


def _on_sums(study: Study, advice: Advice, strategy: Strategy) -> tuple[str, ...]:
    """What a secure sum would bring, in words: whom to trust is not the planner's to say."""
    local, secure = advice.of(strategy, "local"), advice.of(strategy, "secure")
    if study.privacy.secure_sum or not study.private or local is None or secure is None:
        return ()
    return (
        f"a secure sum (privacy.secure_sum) would lower the noise of the embedding from "
        f"{local.embedding_noise:.2g} to {secure.embedding_noise:.2g}, where at most {study.privacy.collude} "
        f"of {study.sites.count} sites would help the coordinator",
    )


def _held_without_trust(study: Study) -> float:
    """ε that sites would have to hold for joint steps with all repeats, where nobody else's noise counts."""
    joint = study.model_copy(update={"share": "gradient", "strategy": "refine"})
    plan = PrivacyPlan.of(joint, "patient")
    return epsilon(locally_at_sites(plan.holds("training"), plan.max_sites_per_patient), plan.delta)


def _on_joint_steps(study: Study) -> tuple[str, ...]:
    """Whether the rounds of a study with secure sums may have their noise jointly, and what that takes."""
    if not (study.privacy.secure_sum and study.private and study.rounds):
        return ()
    seconds, alone, policy = joint_seconds(study), _held_without_trust(study), study.sites
    limit = policy.local_epsilon if policy.trust_secure_sum else policy.epsilon_cap
    offer = "is offered" if seconds <= study.rounds_time_limit and alone <= limit else "is not offered"
    told = (
        f"a secure sum in each discriminator step (share = gradient) {offer}: about {seconds:.0f} s for the "
        f"rounds, by a rounds_time_limit of {study.rounds_time_limit:g} s; without trust in the sums a hold "
        f"of ε = {alone:.3g} with all repeats, by the sites' limit of {limit:g}"
    )
    return (told if study.joint else f"the rounds have each site's own full noise; {told}",)
