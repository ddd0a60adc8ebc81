"""report.html and report.pdf of a checked release: one story for a hospital's board, written twice.

Only what lies in the release is told. The page needs no script and no other file.
"""

import re
from base64 import b64encode
from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined

from medgan_core.release.card import ReleaseCard
from medgan_core.release.check.content import (
    Picture,
    Section,
    Table,
    attacks,
    ceiling,
    check_sections,
    epsilon_text,
    evidence,
    hashes,
    scorecard,
    spend,
    subgroups,
    verdict_line,
)
from medgan_core.release.check.result import CheckResult, power_of_ten, told_name
from medgan_core.release.privacy_facts import privacy_facts
from medgan_core.release.purposes import command_of

NOT_ASSESSED = "not assessed"
_DATA = re.compile(r"base64,[A-Za-z0-9+/=]*")


class Story:
    """What both papers tell of a card that has a check: title, verdict, facts, and sections."""

    def __init__(self, card: ReleaseCard, found: CheckResult) -> None:
        self.title = card.study
        self.subtitle = _subtitle(card)
        self.private = card.private
        self.verdict = found.verdict
        self.word = found.verdict.upper()
        self.line = verdict_line(found)
        self.facts = _facts(card, found)
        self.sections = _sections(card, found)
        self.foot = (
            f"Run {card.run} · made {card.created} · checked {found.checked} · SHA-256 of the generator "
            f"{card.generator_sha256[:16]}…"
        )

    @property
    def pictures(self) -> tuple[str, ...]:
        """The names of all pictures."""
        return tuple(picture.name for section in self.sections for picture in section.pictures)


def story_of(card: ReleaseCard) -> Story:
    """The story of a checked release. ValueError before a check."""
    if card.check is None:
        raise ValueError("a card without a check has no report")
    return Story(card, card.check)


def render(card: ReleaseCard, pictures: Mapping[str, bytes]) -> str:
    """report.html with these PNGs by name; every text is escaped."""
    pages = Environment(
        loader=PackageLoader("medgan_core.release.check"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    encoded = {name: b64encode(picture).decode() for name, picture in pictures.items()}
    return pages.get_template("report.html").render(story=story_of(card), pictures=encoded)


def words_agree(page: bytes, card: ReleaseCard) -> bool:
    """Whether a page says what this card says, whatever its pictures show."""
    expected = render(card, dict.fromkeys(story_of(card).pictures, b""))
    try:
        return _DATA.sub("base64,", page.decode()) == expected
    except UnicodeDecodeError:
        return False


def _subtitle(card: ReleaseCard) -> str:
    channels, height, width = card.data.image_shape
    what = (
        "A generator of synthetic images"
        if command_of(card.task) == "generate"
        else f"A network for {card.task}"
    )
    colour = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    sites = f"{len(card.sites)} {'site' if len(card.sites) == 1 else 'sites'}"
    return (
        f"{what} from {sites}: {card.data.modality}, {height} × {width} pixels, {colour}; "
        f"{', '.join(card.data.classes[:8])}"
    )


def _facts(card: ReleaseCard, found: CheckResult) -> tuple[tuple[str, str], ...]:
    strongest = max(found.attacks, key=lambda row: row.low, default=None)
    attacked = "none" if strongest is None else f"{strongest.auc:.2f}"
    bound = (
        "nothing was attacked"
        if strongest is None
        else f"strongest attack’s AUC, limit {found.attack_limit:.2f}"
    )
    return (
        (f"ε = {epsilon_text(card.epsilon)}", f"at δ = {power_of_ten(card.delta)}, for each {card.unit}"),
        (attacked, bound),
        (card.expires[:10] or "no end", "to be used until"),
        (card.contact or "not stated", "whom to ask"),
    )


def _sections(card: ReleaseCard, found: CheckResult) -> tuple[Section, ...]:
    rows = check_sections(card)[0]
    return (
        Section("What was checked", (), rows.table, notes=rows.notes),
        attacks(card, found),
        *_drawn(card, found),
        *_use(card),
        *subgroups(card, found),
        _cost(card),
        scorecard(found),
        evidence(card, found),
        Section("By NIST SP 800-226", table=Table(("", ""), tuple(privacy_facts(card).items()))),
        Section("Intended use", card.intended_use),
        Section("Forbidden use", card.forbidden_use),
        Section("What is not protected", card.not_protected),
        _validity(card),
        hashes(card, found),
    )


def _drawn(card: ReleaseCard, found: CheckResult) -> tuple[Section, ...]:
    """What it draws, and how it repeats itself; nothing of a network that draws no images by itself."""
    if found.samples is None or not found.samples.finite:
        return ()
    samples = Picture("samples", f"Synthetic images, a row for each class: {', '.join(card.data.classes)}.")
    told = (
        "On the left are drawn images, the first being the one that is most like another; beside each, those "
        "among all drawn images that are nearest to it. Where a generator repeats itself they look the same. "
        f"Of {found.samples.images} images of each class {found.samples.duplicates:.1%} have a "
        "near-duplicate. The figure is how far the nearest is, as a share of the grey levels."
    )
    shown = "All images are synthetic."
    if not card.private:
        shown += " Nothing bounds how much they resemble patients."
    near = Picture(
        "neighbours", "Drawn images, each with its five nearest neighbours among drawn ones.", 0.85
    )
    return (
        Section("What it draws", (shown,), pictures=(samples,)),
        Section("Does it repeat itself?", (told,), pictures=(near,)),
    )


def _use(card: ReleaseCard) -> tuple[Section, ...]:
    released = card.metrics.get("released") or {}
    if not released:
        return ()
    rows = tuple((told_name(name), _number(value)) for name, value in released.items())
    noise = "carry the noise of privacy" if card.private else "come from the sites' sums"
    text = (
        f"Figures that left the sites; they {noise} and were charged to {card.unit}s who were held out of "
        "training.",
    )
    picture = Picture("use", f"Figures of use at ε = {epsilon_text(card.epsilon)}.", 0.55)
    shown = (picture,) if card.private and any(value != NOT_ASSESSED for _, value in rows) else ()
    return (Section("How useful it is", text, Table(("figure", "value"), rows, right=1), shown),)


def _cost(card: ReleaseCard) -> Section:
    whole = spend(card)
    if not card.private:
        none = f"Nothing bounds what anybody can learn of one {card.unit}: ε is infinite."
        return Section("What it cost", (none,), whole.table, notes=whole.notes)
    told = (
        f"ε bounds what anybody can learn of one {card.unit}, whatever they know: the smaller, the better. "
        f"It allows an attack an AUC of {ceiling(card):.3f} at most.",
    )
    picture = Picture("spent", "ε of each site's training patients over the rounds.", 0.62)
    return Section("What it cost: " + whole.title.lower(), told, whole.table, (picture,), whole.notes)


def _validity(card: ReleaseCard) -> Section:
    rows = (
        ("to be used until (UTC)", card.expires or "no end was set"),
        ("contact", card.contact or "not stated: ask whoever gave you the release"),
        ("licence of the generator", card.licence),
        (
            "withdrawal",
            "a patient who withdraws is in no future run; a recall of this one is the coordinator's",
        ),
        ("recall", "medgan verify RELEASE --trust KEYS --recalls FILE tells whether it was recalled"),
    )
    return Section("Until when, and whom to ask", table=Table(("", ""), rows))


def _number(value: object) -> str:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return NOT_ASSESSED
    return NOT_ASSESSED if number != number else f"{number:.3f}"
