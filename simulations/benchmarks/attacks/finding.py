"""A canary site looked for among five by the cosine of what they send: plainly, with noise, and summed."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from client.secure import Kept
from client.site import SiteWorker
from medgan_core.config import Study
from medgan_core.data.source import Site
from medgan_core.messages import Array, Request, Update
from medgan_core.privacy.noise import Keystream, SecretRandom
from medgan_core.privacy.sum_rules import SumRules
from medgan_core.privacy.sum_session import Cohort
from medgan_core.record import RunFolder
from medgan_core.seeds import Seeds
from server.exchange import Answer
from server.secure import SecureRound
from server.state import FederationState, initial_state, next_request
from simulations.attacks.canary import cosines, direction, flat
from simulations.attacks.exposure import Present, Scene, patients_gradient, update, without_patients
from simulations.attacks.planted import Pattern, patch, plant
from simulations.benchmarks.attacks.setting import Level, Released, full_plan, sites_of, small_study
from simulations.hospitals import Launch, make_worker, open_ledger, pin, pinned

SITES = 5
_TRIALS, _SUMS, _DRAWN = 10, 6, 32


def found(released: Released, levels: Sequence[Level], launch: Launch) -> list[dict[str, Any]]:
    """A row for each level of privacy and each kind of canary, and one for secure sums."""
    sites = sites_of(small_study(sites__count=SITES), launch)
    images, labels = _drawn(released)
    pattern = [patch(0)]
    rows = []
    for level in levels:
        scene = released.scene(level)
        along = direction(scene, images, labels, pattern)
        rows += [_plain(scene, level, sites, along, pattern, alone) for alone in (False, True)]
    return [*rows, _summed(released, sites, images, labels, pattern)]


def _drawn(released: Released) -> tuple[Tensor, Tensor]:
    """Images of the attacker's own, from the released generator: [n, c, h, w] and labels [n]."""
    classes, seeds = range(len(released.task.classes)), Seeds(released.study.seed).child("canary")
    images = torch.cat([released.draw(label, _DRAWN, seeds.child(label)) for label in classes])
    return images, torch.tensor([label for label in classes for _ in range(_DRAWN)])


def _plain(
    scene: Scene, level: Level, sites: Sequence[Site], along: Tensor, pattern: list[Pattern], alone: bool
) -> dict[str, Any]:
    """Each site in turn is the canary: all its patients carry the pattern, or its first patient does."""
    fakes = [without_patients(scene, site) for site in sites]
    random = Keystream()
    guesses = []
    for trial in range(_TRIALS):
        canary = trial % len(sites)
        sent = []
        for number, site in enumerate(sites):
            there, source = site, cast(SecretRandom, random)
            if number == canary:
                there = plant(site, [0] if alone else None, pattern)
                source = Present(random, 1) if alone else random
            sent.append(flat(patients_gradient(scene, update(scene, there, source), fakes[number])))
        guesses.append((cosines(sent, along), canary))
    return _row("one patient" if alone else "a whole site", str(level), "each update", guesses)


def _row(what: str, privacy: str, seen: str, guesses: Sequence[tuple[Tensor, int]]) -> dict[str, Any]:
    return {
        "canary": what,
        "privacy": privacy,
        "seen": seen,
        "trials": len(guesses),
        "found": round(fmean(int(near.argmax()) == canary for near, canary in guesses), 3),
        "chance": round(1 / SITES, 3),
        "cosine": round(fmean(float(near[canary]) for near, canary in guesses), 4),
    }


def _summed(
    released: Released, sites: Sequence[Site], images: Tensor, labels: Tensor, pattern: list[Pattern]
) -> dict[str, Any]:
    """The canary is the last site; the attack is tried on the masked vectors of each step."""
    canary = SITES - 1
    study = small_study(
        share="gradient",
        privacy__secure_sum=True,
        privacy__noise_multiplier=full_plan(Level("10")).noise_multiplier,  # as in the plain rows
        sites__count=len(sites),
    )
    along = direction(released.scene(Level("10")), images, labels, pattern)
    there = [*sites[:canary], plant(sites[canary], None, pattern)]
    steps = list(joint_steps(study, released, there, _SUMS))
    guesses = [(cosines([_numbers(words) for words in masked], along), canary) for masked, _ in steps]
    without = [total for _, total in joint_steps(study, released, sites, _SUMS)]
    return _row("a whole site", "ε = 10, secure sum", "masked vectors", guesses) | {
        "cosine_of_sum": _nearness([total for _, total in steps], along),
        "cosine_without_canary": _nearness(without, along),
    }


def _numbers(words: Array) -> Tensor:
    return torch.from_numpy(words.view(np.int64).astype(np.float64))


def _nearness(totals: Sequence[Array], along: Tensor) -> float:
    near = cosine_similarity(torch.from_numpy(np.stack(totals)), along.double()[None], dim=1)
    return round(float(near.mean()), 4)


def joint_steps(
    study: Study, released: Released, sites: Sequence[Site], steps: int
) -> Iterator[tuple[list[Array], Array]]:
    """Of each joint step what the coordinator gets of every site, uint64 [weights], and the sum it reads.

    The study shares gradients in secure sums; all steps start from the released weights.
    """
    with TemporaryDirectory() as folder, ExitStack() as stack:
        run = RunFolder.create(Path(folder), study)
        pin(study, run, sites)
        ledgers = [stack.enter_context(open_ledger(study, run, Launch(), site.name)) for site in sites]
        workers = [make_worker(study, run, *one) for one in zip(sites, ledgers, strict=True)]
        for worker in workers:
            worker.approve()
        first = initial_state(study, released.task, run.name, [site.name for site in sites])
        first = replace(first, groups={**first.groups, **released.sent})
        for number in range(1, 1 + steps):
            yield _joint_step(workers, replace(first, round=number), run)


def _joint_step(
    workers: Sequence[SiteWorker], state: FederationState, run: RunFolder
) -> tuple[list[Array], Array]:
    study, plan = workers[0].study, workers[0].plan
    request = cast(Request, next_request(study, plan, state))  # the first joint step
    cohort, rules = cast(Cohort, pinned(study, run)), cast(SumRules, plan.rules)
    kept: list[Kept] = [{} for _ in workers]
    masked: dict[str, Array] = {}

    def exchange(asked: Request) -> Iterator[Answer]:
        for worker, own in zip(workers, kept, strict=True):
            answer = worker.take_part(asked, own)
            if isinstance(answer, Update):
                masked[answer.site] = answer.groups["masked"]["sum"]
            yield answer

    total = SecureRound(request, plan, rules, cohort, state.attempt, exchange).run(
        np.zeros(plan.gradient_size)
    )
    return [masked[worker.site.name] for worker in workers], total
