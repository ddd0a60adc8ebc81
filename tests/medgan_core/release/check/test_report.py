"""The report tells what lies in the release, for people and printers, and nothing else."""

import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from medgan_core.release.bundle import Release
from medgan_core.release.card import ReleaseCard
from medgan_core.release.check.drawn import sample_figures
from medgan_core.release.check.judge import judge
from medgan_core.release.check.pdf import render_pdf
from medgan_core.release.check.pictures import pictures_of
from medgan_core.release.check.policy import Policy
from medgan_core.release.check.report import render, story_of, words_agree
from tests.medgan_core.release.check.making import TWIN, attack_metrics, histogram, metrics_with
from tests.medgan_core.release.making import CARD, Parties

TOLD = metrics_with(attacks=attack_metrics(0.56), histogram=histogram({0: (80, 20), 1: (30, 6)}))


class _Links(HTMLParser):
    """What a page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if tag in ("script", "link", "iframe", "object") or (
                name in ("src", "href", "srcset") and not (value or "").startswith("data:image/png;base64,")
            ):
                self.found.append(f"{tag} {name}={value}")


def _judged(release: Release) -> ReleaseCard:
    samples = sample_figures(release, Policy())
    found = judge(
        release.card, release.receipts, Policy(), samples, TWIN, checked="2026-01-01T00:00:00+00:00"
    )
    return release.card.model_copy(update={"check": found})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return Parties().build(tmp_path_factory.mktemp("made") / "release", metrics=TOLD)


@pytest.fixture(scope="module")
def card(made: Release) -> ReleaseCard:
    return _judged(made)


@pytest.fixture(scope="module")
def pictures(made: Release, card: ReleaseCard) -> dict[str, bytes]:
    return pictures_of(made, card)


def test_a_page_needs_no_other_file_and_no_script(card: ReleaseCard, pictures: dict[str, bytes]) -> None:
    page = render(card, pictures)
    reader = _Links()
    reader.feed(page)
    assert reader.found == []
    assert "default-src 'none'" in page
    assert page.count("data:image/png;base64,") == len(pictures) == 5


def test_a_page_tells_all_that_a_board_asks(card: ReleaseCard, pictures: dict[str, bytes]) -> None:
    page = render(card, pictures)
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == [section.title.replace("’", "&#8217;") for section in story_of(card).sections]
    for words in (
        "FAIL",
        "This release may not go out.",
        "What was attacked, and with what power",
        "Does it repeat itself?",
        "By NIST SP 800-226",
        "Forbidden use",
        "near-duplicates among drawn images",
        card.generator_sha256,
    ):
        assert words in page
    assert "not assessed" in page


def test_pictures_are_drawn_of_the_release_alone_and_again_the_same(
    made: Release, card: ReleaseCard, pictures: dict[str, bytes]
) -> None:
    assert set(pictures) == set(story_of(card).pictures) == {"samples", "neighbours", "roc", "use", "spent"}
    assert pictures_of(made, card) == pictures
    for picture in pictures.values():
        assert min(Image.open(BytesIO(picture)).size) > 100


def test_the_pdf_is_the_same_bytes_and_holds_every_picture(
    card: ReleaseCard, pictures: dict[str, bytes]
) -> None:
    body = render_pdf(card, pictures)
    assert body.startswith(b"%PDF-")
    assert body == render_pdf(card, pictures)
    assert body.count(b"/Subtype /Image") >= len(pictures)


def test_texts_of_people_are_escaped(made: Release, card: ReleaseCard, pictures: dict[str, bytes]) -> None:
    assert card.check is not None
    nasty = "A <script>alert(1)</script> & B: <b>why</b>"
    check = card.check.model_copy(update={"verdict": "inconclusive", "accepted": nasty})
    told = card.model_copy(update={"check": check, "contact": "<img src=x>"})
    page = render(told, pictures)
    assert "<script" not in page
    assert "<img src=x>" not in page
    assert "&lt;b&gt;why" in page
    assert render_pdf(told, pictures).startswith(b"%PDF-")


def test_words_agree_whatever_the_pictures_show(card: ReleaseCard, pictures: dict[str, bytes]) -> None:
    page = render(card, pictures)
    assert words_agree(page.encode(), card)
    assert not words_agree(page.replace("FAIL", "PASS").encode(), card)
    assert not words_agree(b"\xff", card)


def test_without_attacks_or_privacy_the_page_says_so(tmp_path: Path) -> None:
    release = Parties().build(tmp_path / "release", {"privacy.mode": "off"}, metrics=metrics_with())
    card = _judged(release)
    pictures = pictures_of(release, card)
    page = render(card, pictures)
    assert "NOT PRIVATE: trained without differential privacy" in page
    assert "Nothing was attacked" in page
    assert set(pictures) == {"samples", "neighbours"}
    assert "Nothing bounds" in page
    assert render_pdf(card, pictures).startswith(b"%PDF-")


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({"task": "segmentation"}, (2, 28, 28)),
        ({"data.channels": 3, "data.image_size": 32}, (3, 32, 32)),
    ],
)
def test_other_tasks_and_colours_have_a_report(
    tmp_path: Path, changes: dict[str, object], shape: tuple[int, int, int]
) -> None:
    card = type(CARD)(**{**vars(CARD), "image_shape": shape})
    release = Parties().build(tmp_path / "release", changes, card=card, metrics=TOLD)
    told = _judged(release)
    pictures = pictures_of(release, told)
    assert ("samples" in pictures) == (told.task == "synthesis")
    assert render(told, pictures)
    assert render_pdf(told, pictures).startswith(b"%PDF-")


def test_a_card_without_a_check_has_no_report(made: Release) -> None:
    with pytest.raises(ValueError, match="without a check"):
        story_of(made.card)
