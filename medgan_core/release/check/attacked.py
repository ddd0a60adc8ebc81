"""The row of the attacks: recomputed from the noisy cells that the sites released, and the twin's figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isclose, nan

import numpy as np

from medgan_core.errors import IntegrityError, ReleaseError
from medgan_core.evaluate.attacks.figures import AttackFigures, read_attacks
from medgan_core.evaluate.attacks.verdict import judge_attacks
from medgan_core.messages import Receipt
from medgan_core.release.card import ReleaseCard
from medgan_core.release.check.policy import Policy, rules_of
from medgan_core.release.check.result import AttackRow, Row, Verdict
from medgan_core.release.check.subgroups import deviation

ATTACKED = "attacks on the generator"
"""The name of their row."""
_MEMBERS, _HELD_OUT = "attack", "control"
_PRECISION = 1e-3
_ASK = "let the study ask for attacks and run it again, or let a person answer for it"
_TODO = {
    "pass": "",
    "fail": "Do not release: train with a smaller ε, or with more patients.",
    "inconclusive": "More attacks or more patients may tell; else a person has to answer for it.",
}


@dataclass(frozen=True)
class Attacked:
    """What came of the attacks; `figures` is None where nothing was attacked."""

    row: Row
    rows: tuple[AttackRow, ...] = ()
    limit: float = nan
    figures: AttackFigures | None = None


def attack_figures(card: ReleaseCard, receipts: Sequence[Receipt]) -> AttackFigures | None:
    """The figures in the card's noisy cells, None where there are none.

    Raises ReleaseError for cells that cannot be, and for noise that is not that of the receipts.
    """
    told = card.metrics.get("attacks")
    if told is None:
        return None
    try:
        names = tuple(map(str, told["names"]))
        cells = [np.asarray(told[name], np.float64) for name in ("members", "held_out")]
        noise = [float(told[f"noise_{name}"]) for name in ("members", "held_out")]
    except (KeyError, TypeError, ValueError) as error:
        raise ReleaseError(f"card.json: its attacks cannot be read: {error.__class__.__name__}") from error
    for name, phase, said in zip(("members", "held_out"), (_MEMBERS, _HELD_OUT), noise, strict=True):
        charged = deviation(receipts, phase)
        if charged == charged and not isclose(said, charged, rel_tol=_PRECISION, abs_tol=_PRECISION):
            raise ReleaseError(f"card.json: noise_{name} of its attacks is {said}, by the receipts {charged}")
    try:
        return read_attacks(names, cells[0], cells[1], noise[0], noise[1])
    except IntegrityError as error:
        raise ReleaseError(f"card.json: {error}") from error


def attacked(
    card: ReleaseCard, receipts: Sequence[Receipt], policy: Policy, twin: Mapping[str, float]
) -> Attacked:
    """Judge the attacks by the policy. Nothing attacked is inconclusive."""
    figures = attack_figures(card, receipts)
    found = judge_attacks(figures, card.epsilon, card.delta, rules_of(policy), twin or None)
    limit = f"lower bound ≤ {found.limit:.3f}"
    if figures is None or not figures.figures:
        return Attacked(_row("none was made", limit, "inconclusive", _ASK), limit=found.limit)
    rows = tuple(
        AttackRow(
            **{name: getattr(one, name) for name in AttackRow.model_fields if name != "twin"},
            twin=float(twin.get(one.name, nan)),
        )
        for one in figures.figures
    )
    strongest = max(rows, key=lambda row: row.low)
    told = f"{strongest.name}: AUC {strongest.auc:.3f}, at least {strongest.low:.3f}"
    todo = " ".join((*found.reasons, _TODO[found.verdict]))
    return Attacked(_row(told, limit, found.verdict, todo), rows, found.limit, figures)


def _row(figure: str, limit: str, verdict: Verdict, todo: str) -> Row:
    return Row(
        name=ATTACKED,
        aspect="compliance",
        figure=figure,
        limit=limit,
        verdict=verdict,
        todo="" if verdict == "pass" else todo,
    )
