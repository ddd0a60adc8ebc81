"""The pictures and the page of a finished run, in its folder.

samples.png  explained.png  curves.png  report.html
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from medgan_core.config import Study
from medgan_core.data.source import Card
from medgan_core.gan.task import Panels
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.record import RunFolder, environment, write_atomically
from medgan_core.release.pictures import Labelled, curves, panel_grid, sample_grid, side_by_side
from medgan_core.release.spending import epsilon_by_round, release_epsilon
from server.report import render_report
from server.state import FederationState

_ROWS = 6


@dataclass(frozen=True, eq=False)
class Outcome:
    """All that is told of a finished run.

    `metrics` and `by_site` are as `render_report` takes them. `synthetic` is None of a task that draws none
    by itself; `panels` are what it makes of patients' images, `real` a few real images beside synthetic ones,
    and `maps` where images (with the names of the rows) speak for a score: all only where the card is public.
    """

    study: Study
    run: RunFolder
    card: Card
    plan: PrivacyPlan
    state: FederationState
    synthetic: Labelled | None
    metrics: Mapping[str, Any]
    by_site: Sequence[Mapping[str, Any]]
    seconds: float
    real: Labelled | None = None
    panels: Panels | None = None
    maps: tuple[Panels, tuple[str, ...]] | None = None
    simulated: bool = False

    @cached_property
    def epsilon(self) -> float:
        """ε of the run. A secure sum that was repeated counts as often as it was charged, by the receipts."""
        return (
            self.plan.epsilon()
            if self.plan.rules is None
            else release_epsilon(self.state.receipts, self.plan)
        )


def write_pages(outcome: Outcome) -> None:
    """Draw and write."""
    samples, explained, curve = _samples(outcome), _explained(outcome), _curves(outcome)
    page = _page(outcome, samples, explained, curve)
    folder = outcome.run.path
    for name, picture in (("samples.png", samples), ("explained.png", explained), ("curves.png", curve)):
        if picture is not None:
            write_atomically(folder / name, picture)
    write_atomically(folder / "report.html", page.encode())


def _words(outcome: Outcome) -> dict[str, Any]:
    """What is written around a picture."""
    return {
        "private": outcome.study.private,
        "epsilon": outcome.epsilon,
        "delta": outcome.plan.delta,
        "unit": outcome.card.unit,
        "title": outcome.study.name,
    }


def _explained(outcome: Outcome) -> bytes | None:
    if outcome.maps is None:
        return None
    panels, names = outcome.maps
    return panel_grid(panels, names=names, **_words(outcome))


def _samples(outcome: Outcome) -> bytes | None:
    card, told = outcome.card, _words(outcome)
    if outcome.synthetic is not None and card.channels:
        return panel_grid(_in_grey(outcome.synthetic, outcome.real), **told)
    if outcome.synthetic is not None:
        return sample_grid(*outcome.synthetic, card.classes, real=outcome.real, **told)
    return None if outcome.panels is None else panel_grid(outcome.panels, **told)


def _in_grey(synthetic: Labelled, real: Labelled | None) -> Panels:
    """A row for each image, its channels beside each other: they are no colours."""
    rows = torch.linspace(0, 1, _ROWS)
    heads = {"synthetic": synthetic} if real is None else {"real": real, "synthetic": synthetic}
    return tuple(
        (head, side_by_side(part[(rows * (len(part) - 1)).round().long().unique()]))
        for head, (part, _) in heads.items()
    )


def _curves(outcome: Outcome) -> bytes:
    study, state = outcome.study, outcome.state
    return curves(state.history, epsilon_by_round(state.receipts, study.privacy.delta), private=study.private)


def _page(outcome: Outcome, samples: bytes | None, explained: bytes | None, curve: bytes) -> str:
    return render_report(
        study=outcome.study,
        card=outcome.card,
        plan=outcome.plan,
        run=outcome.run.name,
        epsilon=outcome.epsilon,
        by_site=outcome.by_site,
        metrics=outcome.metrics,
        history=outcome.state.history,
        samples_png=samples,
        explained_png=explained,
        curves_png=curve,
        duration_seconds=outcome.seconds,
        environment=environment(),
        simulated=outcome.simulated,
    )
