"""The coordinator's side of a round: pure functions of study, state, updates and seeds. No Flower, no disk.

Round 0 is the one-shot query, rounds 1 … R are adversarial; then the gate, where the study has one, chooses
between the one-shot and the refined generator, and the last round evaluates. Everything here is
post-processing of what the sites released.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medgan_core.adversarial import ema_decay
from medgan_core.config import ATTACK_BINS, GATE_SIZE, HELD_OUT_PERCENT, Study
from medgan_core.device import CPU
from medgan_core.errors import RoundError
from medgan_core.evaluate.gate import decide
from medgan_core.evaluate.histogram import BINS, read_histogram
from medgan_core.evaluate.means import read_scores
from medgan_core.evaluate.utility import train_classifier
from medgan_core.gan.ema import ema
from medgan_core.gan.networks import calibrate
from medgan_core.gan.steps import balanced_labels
from medgan_core.gan.task import GanTask, PatientTask, SynthesisTask, synthesis_of
from medgan_core.messages import (
    DISCRIMINATORS,
    PROPORTIONS,
    Array,
    Arrays,
    Groups,
    Phase,
    Receipt,
    Request,
    Update,
    phase_at,
)
from medgan_core.privacy.embedding import Embedding, Features
from medgan_core.privacy.grid import total_deviation
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.seeds import Seeds
from medgan_core.sending import sent_groups
from medgan_core.tensors import initial_discriminator, initial_generator, load, state_of, weights_of
from server.aggregate import finite, total
from server.joint import joint_step
from server.matching import match_embedding
from server.momentum import moved
from server.robust import combined

_CALIBRATION_FAKES = 4096
_WITNESSES = 8
CANDIDATES = ("one_shot", "refined")
"""The generators between which the gate chooses."""


@dataclass(frozen=True, eq=False)
class FederationState:
    """All that a coordinator knows between two rounds. `round` is the one to be done next.

    `sites` are the names of all sites in the order of the study's weights.
    Groups: "generator", "discriminator", "average" (EMA of the generator), "statistics" (what the sites
    released), and before the evaluation "release" (the calibrated generator) and "classifier", which a task
    whose fakes depend on patients does without: its sites judge the generator itself. Where there is
    a gate: "start" (the generator after the one-shot round), and after the last training round "release_…"
    and "classifier_…" of both candidates; the gate makes one of them "release" and "classifier".
    With server momentum: "generator_velocity" and "discriminator_velocity", the running sums of steps.
    Where attacks are asked for: "discriminators", those of some rounds, evenly apart, the last one included.
    Where steps are joint: "discriminator_rule" and "generator_rule", what the update rules remember.
    `attempt` counts the secure sums of this round that failed.
    """

    run: str
    sites: tuple[str, ...]
    round: int
    groups: Groups
    receipts: tuple[Receipt, ...] = ()
    history: tuple[Mapping[str, Any], ...] = ()
    attempt: int = 0

    def header(self) -> dict[str, Any]:
        """Everything but the tensors, for JSON."""
        return {
            "run": self.run,
            "sites": list(self.sites),
            "round": self.round,
            "receipts": [receipt.to_json() for receipt in self.receipts],
            "history": [dict(entry) for entry in self.history],
            "attempt": self.attempt,
        }

    @classmethod
    def restore(cls, groups: Groups, header: Mapping[str, Any]) -> "FederationState":
        """The inverse of `header`, with the tensors beside it."""
        receipts = tuple(Receipt.from_json(body) for body in header["receipts"])
        return cls(
            header["run"],
            tuple(header["sites"]),
            header["round"],
            groups,
            receipts,
            tuple(header["history"]),
            header.get("attempt", 0),
        )


def accounted(known: Sequence[Receipt], receipts: Sequence[Receipt]) -> tuple[Receipt, ...]:
    """The known receipts and the others behind them, each charge once: a replay brings its receipt again."""
    told = {(receipt.round, receipt.site, receipt.repeat) for receipt in known}
    new = []
    for receipt in receipts:
        if (charge := (receipt.round, receipt.site, receipt.repeat)) not in told:
            told.add(charge)
            new.append(receipt)
    return (*known, *new)


@dataclass(frozen=True, eq=False)
class Summed:
    """What a secure sum gave: the noisy total, the sites in it, and the receipts of all that was charged."""

    total: Array
    sites: tuple[str, ...]
    receipts: tuple[Receipt, ...]


def initial_state(study: Study, task: GanTask, run: str, sites: Sequence[str]) -> FederationState:
    """Fresh networks from the study's seed, before any data was asked; `sites` are the names of all sites."""
    generator = initial_generator(task, Seeds(study.seed))
    discriminator = initial_discriminator(task, Seeds(study.seed))
    groups = {
        "generator": weights_of(generator),
        "discriminator": weights_of(discriminator),
        "average": weights_of(generator),
    }
    return FederationState(run, tuple(sites), study.first_round, groups)


def phase_of(study: Study, round_number: int) -> Phase | None:
    """Which phase a round belongs to; None after the last."""
    first, attacked = study.first_round, bool(study.attacks)
    return phase_at(round_number, study.training_rounds, study.gated, first, attacked)


def next_request(study: Study, plan: PrivacyPlan, state: FederationState) -> Request | None:
    """What to ask of every site next; None when the run is done."""
    phase = phase_of(study, state.round)
    if phase is None:
        return None
    groups = {name: state.groups[name] for name in sent_groups(study, phase)}
    return Request(state.run, state.round, phase, plan.digest(), groups)


def expected_groups(study: Study, task: GanTask, state: FederationState) -> Groups:
    """Names, shapes and dtypes of what must come back in this round."""
    phase = phase_of(study, state.round)
    classes = len(task.classes)
    if phase is Phase.ONE_SHOT:
        return {"statistics": {"embedding": np.zeros((classes, study.feature_count + 1))}}
    if phase is Phase.GATE:
        return {"statistics": {"gate": np.zeros(GATE_SIZE)}}
    if phase in (Phase.ATTACK, Phase.CONTROL):
        return {"statistics": {str(phase): np.zeros((len(study.attacks), 2, ATTACK_BINS))}}
    if phase is Phase.EVALUATE and isinstance(task, PatientTask):
        return {"statistics": {"scores": np.zeros(study.judged_size)}}
    if phase is Phase.EVALUATE:
        return {"statistics": {"histogram": np.zeros((classes, classes, BINS))}}
    if study.joint:
        return {"statistics": {"gradient": np.zeros(study.discriminator_size)}}
    names = ("generator", "discriminator") if study.share == "both" else ("generator",)
    return {name: state.groups[name] for name in names}


def server_step(
    study: Study,
    task: GanTask,
    state: FederationState,
    updates: Sequence[Update],
    summed: Summed | None = None,
    *,
    device: torch.device = CPU,
) -> FederationState:
    """The state after a round, from its acceptable updates, or from what a secure sum made of them.

    Networks run on `device`; what is random is drawn on the CPU, but for the classifier's dropout, so that a
    device changes roundings alone.
    Raises RoundError where a group would not be finite: all sites would be sent it.
    """
    phase = phase_of(study, state.round)
    sites = tuple(sorted(summed.sites if summed else [update.site for update in updates]))
    receipts = summed.receipts if summed else tuple(update.receipt for update in updates)
    if phase is not Phase.TRAIN:
        name = _statistic(task, phase)
        found = summed or Summed(total(updates, "statistics", name), sites, receipts)
        groups, facts = _after_query(study, task, state, name, found, updates, device)
    elif summed:
        groups, facts = joint_step(
            study, synthesis_of(task), state.groups, state.round, summed.total, sites, device
        )
    else:
        groups, facts = _after_training(study, state, updates)
    if phase is Phase.TRAIN:
        groups = _with_discriminator(study, groups, state.round)
    if state.round == study.training_rounds:
        groups = {**groups, **_finished(study, task, groups, device)}
    _check_finite(state, groups)
    entry = {"round": state.round, "phase": str(phase), "sites": list(sites), **facts}
    return replace(
        state,
        round=state.round + 1,
        groups=groups,
        receipts=accounted(state.receipts, receipts),
        history=(*state.history, entry),
        attempt=0,
    )


def _check_finite(state: FederationState, groups: Groups) -> None:
    """RoundError with the name of a new group that holds NaN or infinity."""
    for group, arrays in groups.items():
        if arrays is state.groups.get(group):
            continue
        if wrong := sorted(name for name, array in arrays.items() if not finite(array)):
            raise RoundError(
                f"round {state.round}: {group} would hold NaN or infinity ({', '.join(wrong[:3])}) and is "
                "not kept. Look at what the sites sent and resume the run, or start a new one with lower "
                "learning rates"
            )


def _statistic(task: GanTask, phase: Phase | None) -> str:
    """The name of what the sites release in a phase other than training."""
    if phase is Phase.EVALUATE:
        return "scores" if isinstance(task, PatientTask) else "histogram"
    return "embedding" if phase is Phase.ONE_SHOT else str(phase)


def _after_query(
    study: Study,
    task: GanTask,
    state: FederationState,
    name: str,
    found: Summed,
    updates: Sequence[Update],
    device: torch.device,
) -> tuple[Groups, dict[str, Any]]:
    """What the sum of the released statistic `name` makes of the groups, and what is told of it.

    `updates` are those of the sites one by one, none under a secure sum.
    """
    noisy, deviation = found.total, total_deviation(found.receipts[0].event, len(found.sites))
    if name == "embedding":
        shares = _proportions_by_site(study, updates) if updates else _common_proportions(study, state, noisy)
        return _after_one_shot(study, synthesis_of(task), state, noisy, deviation, shares, device)
    statistics = {**state.groups.get("statistics", {}), name: noisy}
    state = replace(state, groups={**state.groups, "statistics": statistics})
    if name == "gate":
        return _after_gate(study, state, noisy, deviation, len(found.sites))
    return state.groups, _figures(task, name, torch.tensor(noisy), deviation)


def _after_one_shot(
    study: Study,
    task: SynthesisTask,
    state: FederationState,
    noisy: Array,
    deviation: float,
    shares: Arrays,
    device: torch.device,
) -> tuple[Groups, dict[str, Any]]:
    """Give the generator its start by the sum of the noisy embeddings."""
    seeds = Seeds(study.seed)
    embedding = Embedding.read(torch.tensor(noisy, device=device), study.one_shot.count_weight)
    features = Features.of(study.one_shot, task.image_shape, seeds, apart=study.channels_apart).to(device)
    generator = task.make_generator().to(device)
    load(generator, state.groups["generator"])
    mismatch = match_embedding(study.one_shot, task, generator, embedding, features, deviation, seeds)
    start = weights_of(generator)
    counts = {"noisy_counts": [round(float(count), 3) for count in embedding.counts]}
    statistics = {"embedding": noisy, **shares}
    groups = {**state.groups, "generator": start, "average": start, "statistics": statistics}
    groups |= {"start": start} if study.gated else {}
    return groups, {"mismatch": mismatch, **counts}


def _proportions_by_site(study: Study, updates: Sequence[Update]) -> dict[str, Array]:
    """The classes' shares at each site by the noisy counts that it released itself."""
    shares = {u.site: noisy_proportions(study, u.groups["statistics"]["embedding"]) for u in updates}
    return {f"{PROPORTIONS}{site}": np.asarray(share) for site, share in shares.items()}


def _common_proportions(study: Study, state: FederationState, noisy: Array) -> dict[str, Array]:
    """The classes' shares in the sum, for every site: under secure sum no site's own are known."""
    share = np.asarray(noisy_proportions(study, noisy))
    return {f"{PROPORTIONS}{site}": share for site in state.sites}


def _after_training(
    study: Study, state: FederationState, updates: Sequence[Update]
) -> tuple[Groups, dict[str, Any]]:
    """What is shared, by the study's rule and momentum, and the moving average of the generator."""
    weights = dict(zip(state.sites, study.weights, strict=True))
    incoming = {name: state.groups[name] for name in updates[0].groups}
    found, told = combined(study.aggregation, updates, weights, incoming)
    shared = moved(study.aggregation, state.groups, found)
    moving = ema(state.groups["average"], shared["generator"], ema_decay(study, state.round))
    facts: dict[str, Any] = {
        name: float(np.mean([update.metrics[name] for update in updates])) for name in updates[0].metrics
    }
    return {**state.groups, **shared, "average": moving}, facts | told


def _with_discriminator(study: Study, groups: Groups, number: int) -> Groups:
    """The discriminator of this round kept for the attacks, where it is one of those that are."""
    apart = math.ceil(study.training_rounds / _WITNESSES)
    if "discriminator" not in study.attacks or (study.training_rounds - number) % apart:
        return groups
    now = {f"{number}.{name}": array for name, array in groups["discriminator"].items()}
    return {**groups, DISCRIMINATORS: {**groups.get(DISCRIMINATORS, {}), **now}}


def _after_gate(
    study: Study, state: FederationState, noisy: Array, deviation: float, sites: int
) -> tuple[Groups, dict[str, Any]]:
    """Keep the better generator with its classifier, by the sum of the noisy advantages."""
    patients = sites * study.sites.nominal_patients * HELD_OUT_PERCENT / 100
    verdict = decide(torch.tensor(noisy), deviation, patients)
    groups = {name: arrays for name, arrays in state.groups.items() if not name.startswith("classifier_")}
    groups |= {name: state.groups[f"{name}_{verdict.kept}"] for name in ("release", "classifier")}
    return groups, asdict(verdict)


def _figures(task: GanTask, name: str, noisy: Tensor, deviation: float) -> dict[str, Any]:
    """What may be told of a noisy sum: accuracy and AUC off histograms, a task's own figures off its scores.

    Nothing of the attacks' counts, which the release's check reads.
    """
    if name == "histogram":
        return asdict(read_histogram(noisy, deviation))
    return dict(read_scores(task.name, noisy, deviation)) if name == "scores" else {}


def _finished(study: Study, task: GanTask, groups: Groups, device: torch.device) -> Groups:
    """The generator that will be released, and the classifier that the sites judge it by; or both candidates.

    What is random about them is the same for both, so that the gate compares generators.
    """
    if isinstance(task, PatientTask):
        return {"release": groups["average"]}
    drawing = synthesis_of(task)
    if not study.gated:
        return _judged(study, drawing, groups["average"], device)
    found: dict[str, Arrays] = {}
    for name, weights in zip(CANDIDATES, (groups["start"], groups["average"]), strict=True):
        found |= {f"{kind}_{name}": part for kind, part in _judged(study, drawing, weights, device).items()}
    return found


def _judged(study: Study, task: SynthesisTask, weights: Arrays, device: torch.device) -> dict[str, Arrays]:
    seeds = Seeds(study.seed)
    generator = released_generator(task, weights, seeds, device)
    images, labels = draw(task, generator, study.evaluation.synthetic_images, seeds.child("evaluation"))
    classifier = train_classifier(images, labels, len(task.classes), seed=seeds.child("classifier").integer())
    return {"release": state_of(generator), "classifier": state_of(classifier)}


def released_generator(
    task: SynthesisTask, average_weights: Arrays, seeds: Seeds, device: torch.device = CPU
) -> nn.Module:
    """The averaged generator with BatchNorm statistics of its own fakes, in evaluation mode."""
    generator = task.make_generator().to(device)
    load(generator, average_weights)
    random = seeds.child("calibration").generator()
    latent = torch.randn(_CALIBRATION_FAKES, task.latent_size, generator=random)
    labels = balanced_labels(_CALIBRATION_FAKES, len(task.classes))
    calibrate(generator, latent.to(device), labels.to(device))
    return generator


@torch.no_grad()
def draw(
    task: SynthesisTask, generator: nn.Module, count: int, seeds: Seeds
) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` synthetic images with labels, every class as often, where the generator is."""
    labels = balanced_labels(count, len(task.classes)).to(next(generator.parameters()).device)
    random = seeds.generator()
    return torch.cat([task.sample(generator, part, random) for part in labels.split(512)]), labels


def noisy_proportions(study: Study, embedding_sum: Array) -> list[float]:
    """The classes' shares by the noisy counts that the sites released."""
    counts = Embedding.read(torch.tensor(embedding_sum), study.one_shot.count_weight).counts
    return [float(share) for share in counts / counts.sum()]
