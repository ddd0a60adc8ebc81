"""What a check tells people, as sections that card.md, report.html and report.pdf are all made of.

They follow from the card alone, so that `verify` can tell whether somebody wrote other words.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from math import isfinite, isnan

from medgan_core.evaluate.attacks.ceiling import auc_ceiling
from medgan_core.release.card import ReleaseCard
from medgan_core.release.check.attacked import ATTACKED
from medgan_core.release.check.judge import aspects
from medgan_core.release.check.policy import policy_text
from medgan_core.release.check.result import ASPECTS, Aspect, AttackRow, CheckResult, Finding, worst

SAID: Mapping[str, str] = {
    "pass": "This release may go out.",
    "fail": "This release may not go out.",
    "inconclusive": "The check cannot tell whether this release is safe.",
}
_ASPECTS: Mapping[Aspect, str] = {
    "congruence": "Is it of use, as real images would be?",
    "coverage": "Does it draw all classes, each with variety?",
    "constraint": "Are its images possible ones?",
    "completeness": "Is every use of data told, every group looked at?",
    "compliance": "Are patients protected, and was that tried?",
    "comprehension": "Does its card say what a user must know?",
    "consistency": "Does it repeat itself, and is it signed?",
}
_ATTACKS: Mapping[str, tuple[str, str]] = {
    "discriminator": ("weights", "scores of the discriminators of the rounds (LOGAN)"),
    "inversion": ("weights", "the error with which the generator can draw the image, by gradients"),
    "loss": ("weights", "the network's own loss on the image"),
    "nearest": ("queries", "distance to the nearest of many drawn images"),
    "density": ("queries", "how dense drawn images are around it (Monte Carlo, DOMIAS)"),
}
_ACCESS: Mapping[str, str] = {
    "weights": "whoever holds the weights",
    "queries": "whoever draws images, as many as they like",
}
_RESULTS: Mapping[str, str] = {
    "pass": "no attack tells training patients from others better than the limit",
    "fail": "an attack tells training patients from others: extraction is not insignificant",
    "inconclusive": "not shown: the attacks did not have the power to tell",
}


@dataclass(frozen=True)
class Table:
    """Cells of text; columns from `right` on are numbers."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: int = 99


@dataclass(frozen=True)
class Picture:
    """A picture by its name, what it shows for those who do not see it, and how much of a page's width."""

    name: str
    alt: str
    width: float = 1.0


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, a table, pictures, and notes, each of which may be missing."""

    title: str
    text: tuple[str, ...] = ()
    table: Table | None = None
    pictures: tuple[Picture, ...] = ()
    notes: tuple[str, ...] = ()


def verdict_line(found: CheckResult) -> str:
    """The verdict in one line."""
    said = SAID[found.verdict]
    return f"{said} Accepted by {found.accepted}." if found.accepted else said


def check_sections(card: ReleaseCard) -> tuple[Section, ...]:
    """What a card says of its check; none before one."""
    found = card.check
    if found is None:
        return ()
    return (
        _rows(found),
        attacks(card, found),
        scorecard(found),
        evidence(card, found),
        *subgroups(card, found),
        spend(card),
        hashes(card, found),
    )


def _rows(found: CheckResult) -> Section:
    of_note = ("fail", "inconclusive", "not assessed")
    todo = [f"{row.name}: {row.todo}" for row in found.rows if row.todo and row.verdict in of_note]
    table = Table(
        ("check", "figure", "limit", "verdict"),
        tuple((row.name, row.figure, row.limit, row.verdict) for row in found.rows),
    )
    said = f"**{found.verdict}**: {verdict_line(found)}"
    return Section("Release check", (said,), table, notes=tuple(todo))


def attacks(card: ReleaseCard, found: CheckResult) -> Section:
    """What was attacked, with what power, and what came of it."""
    title = "What was attacked, and with what power"
    if not found.attacks:
        return Section(title, ("Nothing was attacked: whether the generator betrays patients is not known.",))
    told = (
        f"Each attack asks of an image whether its {card.unit} was trained on. The sites tried it on about "
        f"{_count(found.members)} {card.unit}s who were, and on {_count(found.held_out)} who were held out, "
        "and told only noisy counts. An AUC of 0.5 is guessing, 1 is certainty.",
        f"No lower bound may be above {found.attack_limit:.3f}, the smaller of "
        f"{found.policy.max_attack_auc:g} (policy) and {ceiling(card):.3f}, the most that ε, read as "
        "Gaussian privacy, allows any attack whatever. The twin was overfitted on purpose, and an attack "
        f"counts that finds it: AUC {found.policy.twin_auc:g} or more. The control compares "
        f"{card.unit}s who were all trained on, and "
        "has to be 0.5 but for chance.",
    )
    head = ("attack", "AUC", "at least", "at most", "control", "on the twin")
    rows = tuple(_attack(row) for row in found.attacks)
    shown = ", ".join(f"{row.name} {row.auc:.2f}" for row in found.attacks)
    picture = Picture("roc", f"ROC curves of the attacks: {shown}; the ceiling of ε and the limit.", 0.58)
    note = (
        "“At least” and “at most” are 95 % bounds for noise and choice of patients, for all attacks together."
    )
    return Section(title, told, Table(head, rows, right=1), (picture,), (note,))


def _attack(row: AttackRow) -> tuple[str, ...]:
    control = f"{row.control:.3f} ({row.control_low:.2f} to {row.control_high:.2f})"
    return (row.name, *(f"{value:.3f}" for value in (row.auc, row.low, row.high)), control, _score(row.twin))


def ceiling(card: ReleaseCard) -> float:
    """The largest AUC that ε allows."""
    return auc_ceiling(card.epsilon, card.delta)


def scorecard(found: CheckResult) -> Section:
    """The seven Cs of synthetic medical data, each with what speaks for it."""
    known = aspects(found.rows)
    rows = []
    for aspect in ASPECTS:
        seen = [row for row in known.get(aspect, ()) if row.verdict in ("pass", "fail", "inconclusive")]
        rest: Finding = "not asked" if known.get(aspect) else "not assessed"
        verdict = worst(tuple(row.verdict for row in seen)) if seen else rest
        told = "; ".join(f"{row.name}: {row.figure}" for row in known.get(aspect, ()))
        rows.append((aspect, _ASPECTS[aspect], told or "–", verdict))
    table = Table(("C", "question", "what speaks for it", "verdict"), tuple(rows))
    return Section("Scorecard of the seven Cs", table=table)


def evidence(card: ReleaseCard, found: CheckResult) -> Section:
    """Attack evidence as EDPB Opinion 28/2024 asks for it: by weights and by queries."""
    said = next((row.verdict for row in found.rows if row.name == ATTACKED), "inconclusive")
    rows = [tuple(_evidence(kind, found)) for kind in ("weights", "queries")]
    bound = (
        f"By ε = {card.epsilon:.4g}, read as Gaussian privacy, no attack, known or not, can pass AUC "
        f"{ceiling(card):.3f}."
        if card.private
        else "There is no bound: the release is NOT PRIVATE."
    )
    text = (
        "A model is anonymous if personal data of its training can be extracted neither from its weights nor "
        f"by queries, but with insignificant likelihood, and tests of that are documented. {bound}",
        f"Result: {_RESULTS[said]}.",
    )
    head = ("extraction by", "whoever", "attacks tried", "strongest result")
    note = "Attacks that were not tried are not evidence. This is a test, not a legal assessment."
    return Section(
        "Evidence from attacks, by EDPB Opinion 28/2024", text, Table(head, tuple(rows)), notes=(note,)
    )


def _evidence(kind: str, found: CheckResult) -> Iterator[str]:
    tried = [row for row in found.attacks if _ATTACKS.get(row.name, ("queries", ""))[0] == kind]
    yield kind
    yield _ACCESS[kind]
    yield "; ".join(f"{row.name}: {_ATTACKS.get(row.name, ('', 'an attack'))[1]}" for row in tried) or "none"
    strongest = max(tried, key=lambda row: row.low, default=None)
    yield (
        "–"
        if strongest is None
        else f"{strongest.name}, AUC {strongest.auc:.3f} (95 %: {strongest.low:.3f} to {strongest.high:.3f})"
    )


def subgroups(card: ReleaseCard, found: CheckResult) -> Iterator[Section]:
    """How well the classes are served; nothing where no histogram was released."""
    if not found.subgroups:
        return
    rows = tuple(
        (group.name, _count(group.patients), _score(group.right), _error(group.error))
        for group in found.subgroups
    )
    head = ("class", f"held-out {card.unit}s, noisy", "found right", "standard error")
    note = (
        f"Found right by a classifier that learned from synthetic images alone. Below "
        f"{found.policy.smallest_subgroup:g} {card.unit}s: not assessed. Groups by sex, age or origin are "
        "not known here."
    )
    yield Section("Subgroups", table=Table(head, rows, right=1), notes=(note,))


def spend(card: ReleaseCard) -> Section:
    """Total spend with tuning and evaluation, by site."""
    rows = tuple(
        (
            site.site,
            *map(
                epsilon_text,
                (
                    site.epsilon_training,
                    site.epsilon_held_out,
                    site.account_epsilon_training,
                    site.account_epsilon_held_out,
                ),
            ),
        )
        for site in card.sites
    )
    head = ("site", "ε training", "ε held out", "ε whole account, training", "ε whole account, held out")
    note = (
        "The whole account holds every earlier run on the same patients, those for tuning too. Evaluation, "
        "gate and attacks on held-out patients are in “held out”; patients are in one of the two."
    )
    return Section("Total spend, with tuning and evaluation", table=Table(head, rows, right=1), notes=(note,))


def hashes(card: ReleaseCard, found: CheckResult) -> Section:
    """What anybody can compute again."""
    rows = (
        ("generator.safetensors", card.generator_sha256),
        ("privacy plan", card.plan.digest()),
        ("policy of this check", sha256(policy_text(found.policy).encode()).hexdigest()),
    )
    note = (
        "All other files are in manifest.json. `medgan verify RELEASE --trust KEYS` computes hashes, ε and "
        "this verdict again, offline, and draws the images under samples/ anew."
    )
    return Section("Hashes that can be computed again", table=Table(("SHA-256 of", ""), rows), notes=(note,))


def epsilon_text(value: float) -> str:
    """ε for people."""
    return "∞" if value == float("inf") else f"{value:.4g}"


def _count(patients: float) -> str:
    return f"{max(patients, 0):,.0f}" if isfinite(patients) else "an unknown number of"


def _score(value: float) -> str:
    return "not assessed" if isnan(value) else f"{value:.3f}"


def _error(value: float) -> str:
    return "–" if isnan(value) else f"± {value:.3f}"
