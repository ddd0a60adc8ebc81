"""What an audit of noisy steps sees of ε, beside what is accounted, and what the watch of the noise costs.

Everything comes of the deployed optimiser on made-up patients; the table goes into docs/audit.md.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import optim

from client.audited import mechanism_of
from medgan_core.config import load_study
from medgan_core.messages import Phase
from medgan_core.privacy.accounting import epsilon
from medgan_core.privacy.audit import bounds
from medgan_core.privacy.audit.canaries import single_run, spikes
from medgan_core.privacy.audit.mechanism import Mechanism
from medgan_core.privacy.audit.mutants import half_the_noise
from medgan_core.privacy.noise_watch import NoiseWatch
from medgan_core.record import make_folder, write_json
from server.planning import decided
from simulations.shipped import study_path

PAGE = "audit.md"
SIGMAS = (1.4, 1.0, 0.8, 0.6)
PATIENTS, BATCH, STEPS, DELTA = 5000, 64, 500, 1e-5
FEW, MANY = 2000, 16_000
"""Canaries by step: the fewest that an audit takes, and those by which it measures ε."""
_CANARIES = 1000
_MARKS = "<!-- seen -->", "<!-- /seen -->"


@dataclass(frozen=True)
class Seen:
    """For one noise multiplier, all bounds of several audits: as shares of `epsilon`, or ε themselves.

    χ² and canaries with `FEW` and with `MANY` observations, of one run with what was expected; `half` is what
    canaries show of half the noise.
    """

    epsilon: float
    sigma: float
    chi_square: tuple[list[float], list[float]]
    canary: tuple[list[float], list[float]]
    one_run: list[float]
    expected: list[float]
    half: float


@dataclass(frozen=True)
class Cost:
    """Processor µs: medians of a step and of what the watch adds to it, and its reading of all `steps`."""

    weights: int
    step: float
    watch: float
    reading: float
    steps: int


def figures(sigmas: Sequence[float] = SIGMAS, audits: int = 20, steps: int = 2000) -> dict[str, Any]:
    """The rows of the table and the cost, as they are kept."""
    cost, rows = cost_of_watch(steps), [seen(sigma, audits) for sigma in sigmas]
    asked = {"patients": PATIENTS, "batch": BATCH, "steps": STEPS, "delta": DELTA}
    return asked | {"cost": asdict(cost), "rows": [asdict(row) for row in rows]}


def seen(sigma: float, audits: int) -> Seen:
    """What so many audits see of steps with this noise multiplier."""
    mechanism = mechanism_with(sigma)
    claimed = epsilon((mechanism.training,), DELTA)
    few, many = ([_shares(mechanism, count, claimed) for _ in range(audits)] for count in (FEW, MANY))
    runs = [single_run(mechanism, _CANARIES, STEPS) for _ in range(audits)]
    return Seen(
        epsilon=claimed,
        sigma=sigma,
        chi_square=([one[0] for one in few], [one[0] for one in many]),
        canary=([one[1] for one in few], [one[1] for one in many]),
        one_run=[run.epsilon for run in runs],
        expected=[run.expected for run in runs],
        half=_shares(half_the_noise(mechanism), MANY, 1.0)[1],
    )


def mechanism_with(sigma: float) -> Mechanism:
    """The phantoms' study with this noise, on as many patients, and in as many steps, as the table is of."""
    sound = mechanism_of(decided(load_study(study_path("phantoms"))))
    plan = replace(
        sound.plan,
        noise_multiplier=sigma,
        sampling_rate=BATCH / PATIENTS,
        nominal_batch=float(BATCH),
        steps=STEPS,
        rounds=1,
        delta=DELTA,
    )
    return replace(sound, plan=plan, runs=plan)


def _shares(mechanism: Mechanism, observations: int, claimed: float) -> tuple[float, float]:
    """ε by χ² and by canaries, as shares of what is claimed."""
    found = spikes(mechanism, observations)
    moves = (
        1 / (mechanism.plan.noise_multiplier * found.reading.deviation),
        bounds.gaussian_move(found.absent.ravel(), found.present.ravel()),
    )
    by_noise, by_canary = (
        bounds.epsilon_of_move(move, mechanism.training, DELTA) / claimed for move in moves
    )
    return by_noise, by_canary


def cost_of_watch(steps: int) -> Cost:
    """Steps of the phantoms' discriminator with and without the watch, in turn."""
    mechanism = mechanism_with(SIGMAS[0])
    event = replace(mechanism.plan.event(Phase.TRAIN), steps=steps)
    watch = NoiseWatch(event, mechanism.plan.deviation(Phase.TRAIN))
    watched, alone = (_stepping(mechanism, one) for one in (watch, None))
    pairs = [(_timed(alone), _timed(watched)) for _ in range(steps)]
    weights = sum(p.numel() for p in mechanism.trial().network.parameters())
    return Cost(
        weights=weights,
        step=median(without for without, _ in pairs),
        watch=median(with_it - without for without, with_it in pairs),
        reading=_timed(watch.reading),
        steps=steps,
    )


def _stepping(mechanism: Mechanism, watch: NoiseWatch | None) -> Callable[[], None]:
    trial = mechanism.trial()
    network = trial.network.float()
    optimizer = mechanism.runs.optimizer(
        network, partial(optim.SGD, lr=1e-3), mechanism.random(), watch=watch
    )
    images = trial.images[:1].float().repeat(BATCH, 1, 1, 1)
    labels, owner = trial.labels[:1].repeat(BATCH), torch.arange(BATCH)
    return partial(mechanism.step(optimizer), trial.loss, images, labels, owner, None)


def _timed(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return 1e6 * (time.process_time() - began)


def keep(path: Path, found: dict[str, Any]) -> str:
    """Write the figures as JSON, and their table, which is returned, into the page beside if there is one."""
    make_folder(path.parent)
    write_json(path, found)
    page = path.with_name(PAGE)
    if page.is_file():
        page.write_text(with_table(page.read_text(encoding="utf-8"), found), encoding="utf-8")
    return table(found)


def with_table(text: str, found: dict[str, Any]) -> str:
    """The page with the table of these figures between its marks."""
    before, rest = text.split(_MARKS[0])
    after = rest.split(_MARKS[1])[1]
    return f"{before}{_MARKS[0]}\n{table(found)}\n{_MARKS[1]}{after}"


def table(found: dict[str, Any]) -> str:
    """As Markdown, and a line on the cost."""
    heads = ["ε by PRV", "σ", f"χ², {_draws(FEW)}", f"χ², {_draws(MANY)}", f"canary, {FEW:,}"]
    heads += [f"canary, {MANY:,}", "one run: ε ≥", "expected", "σ/2 shows as"]
    lines = [_line(heads), "|---" * len(heads) + "|"]
    for row in found["rows"]:
        shares = [_spread(part) for name in ("chi_square", "canary") for part in row[name]]
        runs = [_spread(row["one_run"]), f"{median(row['expected']):.2f}"]
        lines.append(
            _line([f"{row['epsilon']:.2f}", f"{row['sigma']:g}", *shares, *runs, f"{row['half']:.1f}"])
        )
    cost = found["cost"]
    words = (
        f"The watch costs {cost['watch']:.0f} µs of a step of {cost['step'] / 1000:.1f} ms (processor time, "
        f"batch {BATCH}, {cost['weights']:,} weights, medians of {cost['steps']:,} steps in turn), its "
        f"reading of them all {cost['reading'] / 1000:.0f} ms."
    )
    return "\n".join([*lines, "", words])


def _draws(observations: int) -> str:
    """Numbers of the watch in as many steps as so many canaries take."""
    return f"{observations // 100 * 256:,}"


def _spread(values: Sequence[float]) -> str:
    """The median, the least and the most."""
    return f"{median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
