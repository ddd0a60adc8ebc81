"""What a site does in one round: pure functions of task, plan, data, incoming state and randomness.

No federation framework, no ledger and no disk: `client.site` charges before it calls `local_round`, and the
simulation calls the same. Public: the request, the plan, the study. Private: the site's data.

Networks, update rules and batches are on the site's own device. Coins, latents and noise are drawn on the
CPU, so that a device changes roundings alone; patients' sums are noised there, and what leaves is numpy.
"""

from collections.abc import Callable
from functools import partial, reduce

import numpy as np
import torch

from client.asked import Asked, RoundResult
from client.attacked import attacked
from client.training import gradient, train
from client.training_on_patients import train_on_patients
from medgan_core.config import Study
from medgan_core.data.source import Site
from medgan_core.device import CPU
from medgan_core.evaluate.attacks.bins import attack_grid_sum, attack_sum
from medgan_core.evaluate.gate import advantage_grid_sum, advantage_sum
from medgan_core.evaluate.histogram import score_grid_histogram, score_histogram
from medgan_core.evaluate.means import judged_sum
from medgan_core.evaluate.utility import class_scores, make_classifier
from medgan_core.gan.outputs import output_scores
from medgan_core.gan.task import GanTask, PatientTask, SynthesisTask, synthesis_of
from medgan_core.messages import Array, Groups, Phase, Request
from medgan_core.privacy.book_keeping import parts_of
from medgan_core.privacy.embedding import Features, patient_grid_sum, patient_sum
from medgan_core.privacy.grid import to_words
from medgan_core.privacy.noise import DiscreteRandom, SecretRandom
from medgan_core.privacy.noise_watch import NoiseWatch
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.privacy.sum_keys import Words
from medgan_core.seeds import Seeds
from medgan_core.tensors import load, seeded

_EMBEDDED_AT_ONCE = 512


def local_round(
    study: Study,
    task: GanTask,
    plan: PrivacyPlan,
    site: Site,
    request: Request,
    local: Groups,
    seeds: Seeds,
    random: SecretRandom,
    device: torch.device = CPU,
    watch: NoiseWatch | None = None,
) -> RoundResult:
    """One round of a site. `local` is what its latest training round kept; `random` is secret.

    Every draw of noise is some numbers longer than needed: `watch` sees them, and nobody else.
    """
    watch = watch or plan.watch(request.phase)
    asked = Asked(study, task, plan, site, request, seeds, random, device, watch)
    if request.phase is Phase.ONE_SHOT:
        return _one_shot(asked)
    if request.phase is Phase.GATE:
        return _gate(asked)
    if request.phase is Phase.EVALUATE:
        return _evaluate(asked)
    if request.phase in (Phase.ATTACK, Phase.CONTROL):
        return _attack(asked)
    if isinstance(task, PatientTask):
        return train_on_patients(asked, task, local)
    return train(asked, synthesis_of(task), local)


def noisy_words(
    study: Study,
    task: GanTask,
    plan: PrivacyPlan,
    site: Site,
    request: Request,
    seeds: Seeds,
    random: SecretRandom,
    device: torch.device = CPU,
    watch: NoiseWatch | None = None,
) -> Words:
    """What a site puts under its mask in a secure sum: its own sum on the grid and its share of the noise.

    Uint64 [n], modulo 2^64; `watch` as in `local_round`. Raises TypeError for a source that cannot draw on a
    grid.
    """
    if not isinstance(random, DiscreteRandom):
        raise TypeError("a secure sum needs discrete noise: this source has none")
    watch = watch or plan.watch(request.phase)
    asked = Asked(study, task, plan, site, request, seeds, random, device, watch)
    sums: dict[Phase, Callable[[], torch.Tensor]] = {
        Phase.ONE_SHOT: partial(_embedding, asked, patient_grid_sum),
        Phase.TRAIN: lambda: gradient(asked, synthesis_of(task)),
        Phase.GATE: partial(_advantage, asked, advantage_grid_sum),
        Phase.EVALUATE: partial(_judged, asked, grid=True),
        Phase.ATTACK: partial(attacked, asked, attack_grid_sum),
        Phase.CONTROL: partial(attacked, asked, attack_grid_sum),
    }
    total = _longer(sums[request.phase](), watch)
    noisy = total + random.discrete(len(total), plan.event(request.phase).share_deviation)
    used = len(total) - watch.width
    watch.see(noisy[used:])
    return to_words(noisy[:used])


def _one_shot(asked: Asked) -> RoundResult:
    """Release the noisy embedding sum of the training patients."""
    total = _embedding(asked, patient_sum)
    noisy = _noised(total, asked.plan.one_shot_noise_multiplier, asked)
    return RoundResult({"statistics": {"embedding": noisy}})


def _embedding(asked: Asked, add: Callable[..., torch.Tensor]) -> torch.Tensor:
    """The embedding of the training patients, summed by `add`: [classes, d + 1].

    Some whole patients at a time: features take more memory than images do.
    """
    data, task, study = asked.site.training, asked.task, asked.study
    made = Features.of(study.one_shot, task.image_shape, asked.seeds, apart=study.channels_apart)
    features = made.to(asked.device)

    def summed(rows: torch.Tensor) -> torch.Tensor:
        embedded = features(data.images[rows].to(asked.device)).cpu()
        facts = data.labels[rows], data.owner[rows]
        return add(embedded, *facts, len(task.classes), study.one_shot.count_weight)

    with torch.no_grad():
        return reduce(torch.add, (summed(part.rows) for part in parts_of(data.owner, _EMBEDDED_AT_ONCE)))


def _gate(asked: Asked) -> RoundResult:
    """Release how much better held-out patients are told by one classifier than by the other, with noise."""
    noisy = _noised(_advantage(asked, advantage_sum), asked.plan.gate_noise_multiplier, asked)
    return RoundResult({"statistics": {"gate": noisy}})


def _advantage(asked: Asked, add: Callable[..., torch.Tensor]) -> torch.Tensor:
    """That of the refined generator's classifier over the one-shot's, summed by `add`: [64]."""
    data = asked.site.held_out
    refined, one_shot = (_scores(asked, f"classifier_{name}") for name in ("refined", "one_shot"))
    return add(refined, one_shot, data.labels, data.owner)


def _evaluate(asked: Asked) -> RoundResult:
    """Release, with noise, how the held-out patients fare under the network that came along."""
    total = _judged(asked, grid=False)
    name = "histogram" if isinstance(asked.task, SynthesisTask) else "scores"
    return RoundResult({"statistics": {name: _noised(total, asked.plan.evaluation_noise_multiplier, asked)}})


def _judged(asked: Asked, *, grid: bool) -> torch.Tensor:
    """The score histogram of the classifier [classes, classes, 10], or the sum of the task's scores [j]."""
    data, task = asked.site.held_out, asked.task
    if not isinstance(task, PatientTask):
        add = score_grid_histogram if grid else score_histogram
        return add(_scores(asked, "classifier"), data.labels, data.owner)
    generator = task.make_generator()
    load(generator, asked.request.groups["release"])
    scores = output_scores(task, generator.to(asked.device), data.images)
    return judged_sum(task.name, scores, task.answers(data.labels), data.owner, grid=grid)


def _attack(asked: Asked) -> RoundResult:
    """Release, with noise, how attacks on the generator score a site's patients."""
    plan, phase = asked.plan, asked.request.phase
    sigma = plan.attack_noise_multiplier if phase is Phase.ATTACK else plan.control_noise_multiplier
    return RoundResult({"statistics": {str(phase): _noised(attacked(asked, attack_sum), sigma, asked)}})


def _scores(asked: Asked, group: str) -> torch.Tensor:
    task = asked.task
    classifier = seeded(lambda: make_classifier(task.image_shape[0], len(task.classes)), 0).eval()
    load(classifier, asked.request.groups[group])
    return class_scores(classifier.to(asked.device), asked.site.held_out.images)


def _noised(total: torch.Tensor, noise_multiplier: float, asked: Asked) -> Array:
    """A sum of sensitivity 1 with Gaussian noise, float64."""
    exact = _longer(total.double(), asked.watch)
    noisy: Array = exact + asked.random.normal(len(exact)).numpy() * noise_multiplier
    asked.watch.see(noisy[total.numel() :])
    return noisy[: total.numel()].reshape(total.shape)


def _longer(total: torch.Tensor, watch: NoiseWatch) -> Array:
    """A sum, flat, with zeros behind it for the noise that the watch sees."""
    flat = total.flatten().cpu().numpy()
    return np.concatenate([flat, np.zeros(watch.width, flat.dtype)])
