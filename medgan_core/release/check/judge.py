"""The checks: a pure function of what a release says of itself, of a policy, and of what a check found.

`verify` asks it again, so that a verdict on a card cannot be other than what its figures give.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from math import isfinite, isnan, nan

from medgan_core.errors import ReleaseError
from medgan_core.messages import Receipt
from medgan_core.release.card import ReleaseCard
from medgan_core.release.check.attacked import attacked
from medgan_core.release.check.policy import Floors, Policy
from medgan_core.release.check.result import (
    Aspect,
    CheckResult,
    Finding,
    Row,
    SampleFigures,
    Subgroup,
    power_of_ten,
    told_name,
    worst,
)
from medgan_core.release.check.subgroups import accuracy_error, subgroups
from medgan_core.release.signers import check_receipts_signed
from medgan_core.release.spending import release_epsilon

_DAY = 86_400


def judge(
    card: ReleaseCard,
    receipts: Sequence[Receipt],
    policy: Policy,
    samples: SampleFigures | None,
    twin: Mapping[str, float],
    *,
    checked: str,
    accepted: str = "",
) -> CheckResult:
    """All rows and their verdict. What `card.check` says is not looked at.

    Raises ReleaseError for figures on the card that cannot be.
    """
    attacks = attacked(card, receipts, policy, twin)
    groups = subgroups(card, receipts, policy.smallest_subgroup)
    rows = (
        *_privacy(card, receipts, policy),
        attacks.row,
        *_signatures(card, receipts, policy),
        *_floors(card, receipts, policy.floors, groups),
        *_subgroups(card, groups, policy),
        *_samples(card, samples, policy),
        *_marks(card, policy),
    )
    figures = attacks.figures
    return CheckResult(
        verdict=worst(tuple(row.verdict for row in rows)),
        policy=policy,
        rows=rows,
        attacks=attacks.rows,
        attack_limit=attacks.limit,
        members=nan if figures is None else figures.members,
        held_out=nan if figures is None else figures.held_out,
        twin=dict(twin),
        samples=samples,
        subgroups=groups,
        accepted=accepted,
        checked=checked,
    )


def _privacy(card: ReleaseCard, receipts: Sequence[Receipt], policy: Policy) -> Iterator[Row]:
    """Privacy is on, and what it cost by the receipts, in this run and in all."""
    public = card.data.public
    on: Finding = "pass" if card.private else "not asked" if public else "fail"
    what = "on" if card.private else "NOT PRIVATE, of public data" if public else "NOT PRIVATE"
    yield _row("differential privacy", "compliance", what, "on, or public data", on, _PRIVATE)
    found, limit = release_epsilon(receipts, card.plan), f"≤ {policy.max_epsilon:g}"
    figure = f"{_number(found)} at δ = {power_of_ten(card.delta)}, from {len(receipts)} receipts"
    asked = card.private or not public
    yield _row("ε of this run", "compliance", figure, limit, _within(found, policy.max_epsilon, asked), _LESS)
    whole = max(max(s.account_epsilon_training, s.account_epsilon_held_out) for s in card.sites)
    most = policy.max_account_epsilon
    yield _row(
        "ε of the accounts, tuning and evaluation too",
        "compliance",
        f"{_number(whole)}, the largest of all sites",
        f"≤ {most:g}" if most else "–",
        _within(whole, most, asked and most > 0),
        "other patients, or a policy that allows for what was spent before",
    )


def _signatures(card: ReleaseCard, receipts: Sequence[Receipt], policy: Policy) -> Iterator[Row]:
    sites = {receipt.site for receipt in receipts}
    keyed = sites <= set(card.verify_keys)
    signed: Finding = "pass"
    try:
        check_receipts_signed(receipts, card.verify_keys, None)
    except ReleaseError:
        keyed = False
    if not keyed:
        signed = "fail" if policy.require_signatures else "not asked"
    of_sites = f"{len(sites)} {'site' if len(sites) == 1 else 'sites'}"
    figure = f"{'all' if keyed else 'not all'} of {len(receipts)} receipts, {of_sites}"
    todo = "let every site have a key (medgan-client init makes one) and run again"
    yield _row("signatures of the sites", "consistency", figure, "every receipt", signed, todo)
    rounds = len({receipt.round for receipt in receipts})
    yield _row("receipts", "completeness", f"for all {rounds} rounds", "every use of data", "pass")


def _floors(
    card: ReleaseCard, receipts: Sequence[Receipt], floors: Floors, groups: Sequence[Subgroup]
) -> Iterator[Row]:
    """Figures of use, each with its floor; those that neither are there nor asked for are left out."""
    told = dict(_released(card, groups))
    for name in Floors.model_fields:
        floor, value = float(getattr(floors, name)), told.get(name, nan)
        if isnan(value) and not floor:
            continue
        figure = _number(value) if isnan(value) else f"{value:.3f}"
        if name == "accuracy" and isfinite(error := accuracy_error(card, receipts)):
            figure = f"{figure} ± {error:.2g}"
        found: Finding = "not asked" if not floor else "inconclusive" if isnan(value) else "pass"
        if floor and value < floor:
            found = "fail"
        todo = "this figure was not released" if isnan(value) else "train longer, or with more patients"
        limit = f"≥ {floor:g}" if floor else "–"
        yield _row(told_name(name), "congruence", figure, limit, found, todo)


def _released(card: ReleaseCard, groups: Sequence[Subgroup]) -> Iterator[tuple[str, float]]:
    """Figures of use by name: what the sites released, and of public data the fidelity."""
    released = card.metrics.get("released") or {}
    fidelity = (card.metrics.get("public") or {}).get("fidelity") or {}
    for name in Floors.model_fields:
        place = fidelity if name == "coverage" else released
        if name in place:
            yield name, _float(place[name])
    shares = [group.right for group in groups if isfinite(group.right)]
    if shares:
        yield "worst_class", min(shares)


def _subgroups(card: ReleaseCard, groups: Sequence[Subgroup], policy: Policy) -> Iterator[Row]:
    """How many classes there were patients enough to judge; what is not assessed does no harm here."""
    assessed = [group.name for group in groups if isfinite(group.right)]
    figure = f"{len(assessed)} of {len(card.data.classes)} classes assessed"
    limit = f"{policy.smallest_subgroup:g} held-out {card.unit}s of a class"
    missing = [group.name for group in groups if group.name not in assessed]
    whole = bool(groups) and not missing
    todo = f"not assessed: {', '.join(missing)}" if missing else ""
    yield _row("subgroups", "completeness", figure, limit, "pass" if whole else "not assessed", todo)


def _samples(card: ReleaseCard, samples: SampleFigures | None, policy: Policy) -> Iterator[Row]:
    if samples is None:
        yield _row("drawn images", "coverage", "it draws none by itself", "–", "not assessed")
        return
    sound = samples.finite and samples.lowest >= -1 and samples.highest <= 1 and samples.constant == 0
    figure = (
        f"{samples.lowest:.2f} to {samples.highest:.2f}, {samples.constant:.0%} constant".replace("-", "−")
        if samples.finite
        else "not finite"
    )
    again = "train again; look at samples.png and curves.png of the run"
    limit = "finite, −1 to 1, none constant"
    yield _row("pixels", "constraint", figure, limit, _passes(sound), again)
    least = min(samples.difference, default=nan)
    worst_class = dict(zip(samples.difference, card.data.classes, strict=False)).get(least, "no class")
    yield _row(
        "variety of a class",
        "coverage",
        f"images of {worst_class} differ by {least:.1%}",
        f"≥ {policy.least_difference:.1%}",
        _passes(least >= policy.least_difference),
        f"the generator lost its variety: {again}",
    )
    yield _row(
        "near-duplicates among drawn images",
        "coverage",
        f"{samples.duplicates:.1%}",
        f"≤ {policy.max_duplicates:.1%}",
        _passes(samples.duplicates <= policy.max_duplicates),
        f"the generator repeats itself: {again}",
    )
    figure = "the same images" if samples.repeats else "other images"
    todo = "this machine does not repeat its own numbers: check on another one"
    yield _row("drawn twice by one seed", "consistency", figure, "the same", _passes(samples.repeats), todo)


def _marks(card: ReleaseCard, policy: Policy) -> Iterator[Row]:
    """What the card must say: whom to ask, until when, under which licence."""
    stated = bool(card.contact.strip())
    contact = card.contact if stated else "not stated"
    asked = policy.require_contact
    needed = "to be stated" if asked else "–"
    yield _row("contact", "comprehension", contact, needed, _stated(stated, asked), _SAY.format("contact"))
    known = card.licence not in ("", "unknown")
    asked = policy.require_licence
    needed = "to be stated" if asked else "–"
    yield _row(
        "licence", "comprehension", card.licence, needed, _stated(known, asked), _SAY.format("licence")
    )
    days, most = _valid_days(card), policy.max_valid_days
    figure = f"{days:g} days, until {card.expires[:10]}" if card.expires else "no end"
    limit = f"≤ {most} days" if most else "–"
    ends = bool(card.expires) and days <= most
    yield _row("expiry", "comprehension", figure, limit, _stated(ends, most > 0), _SAY.format("valid_days"))


def _valid_days(card: ReleaseCard) -> float:
    if not card.expires:
        return nan
    end, made = datetime.fromisoformat(card.expires), datetime.fromisoformat(card.created)
    return round((end - made).total_seconds() / _DAY, 2)


_PRIVATE = "train with privacy.mode = dp; or declare the data public, if they are"
_LESS = "train with a smaller privacy.epsilon, or change the policy"
_SAY = "set {} in [release] of the study, which its sites approve, and run again"


def _row(name: str, aspect: Aspect, figure: str, limit: str, verdict: Finding, todo: str = "") -> Row:
    """A row; what to do is said where it is of use."""
    done = verdict == "pass"
    return Row(
        name=name, aspect=aspect, figure=figure, limit=limit, verdict=verdict, todo="" if done else todo
    )


def _passes(sound: bool) -> Finding:
    return "pass" if sound else "fail"


def _stated(sound: bool, asked: bool) -> Finding:
    if sound:
        return "pass"
    return "fail" if asked else "not asked"


def _within(value: float, most: float, asked: bool) -> Finding:
    return _passes(value <= most) if asked else "not asked"


def _number(value: float) -> str:
    return "not assessed" if isnan(value) else "∞" if value == float("inf") else f"{value:.4g}"


def _float(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return nan


def aspects(rows: Iterable[Row]) -> dict[Aspect, tuple[Row, ...]]:
    """The rows by the seven Cs."""
    told: dict[Aspect, list[Row]] = {}
    for row in rows:
        told.setdefault(row.aspect, []).append(row)
    return {aspect: tuple(found) for aspect, found in told.items()}
