import re
from base64 import b64encode
from dataclasses import replace
from html.parser import HTMLParser
from math import inf, nan
from typing import Any

import pytest

from medgan_core.config import Study, parse_study
from medgan_core.data.source import Card
from medgan_core.errors import RefusedError
from medgan_core.privacy.plan import PrivacyPlan
from server.report import NOT_ASSESSED, duration, figure, render_report, spending

CARD = Card(
    "Chest set", ("normal", "<b>"), (1, 28, 28), "DX", "patient", True, "https://example.org", "CC BY"
)
SITES = ["north", "south", "west"]
PUBLIC = {
    "train_on_real": {"accuracy": 0.951, "balanced_accuracy": 0.941, "auc": 0.981},
    "train_on_synthetic": {"accuracy": 0.881, "balanced_accuracy": 0.851, "auc": 0.949},
    "fidelity": {"frechet": 12.3, "frechet_floor": 2.2, "frechet_ratio": 5.59, "kernel_ratio": "nan"},
    "memorization": {"share_nearer_training": 0.512, "to_training": 4.13},
}
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tags, attributes and visible text; fails on tags that do not pair."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        assert not self.open
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def study(rounds: int = 3, mode: str = "dp", share: str = "both") -> Study:
    data = {"kind": "npz", "path": "set.npz", "classes": ["normal", "<b>"]}
    privacy = {"mode": mode}
    body = {"name": "chest", "strategy": "refine", "rounds": rounds, "share": share}
    return parse_study({**body, "data": data, "privacy": privacy})


def plan(asked: Study, unit: Any = "patient") -> PrivacyPlan:
    noise = (1.25, 0.55, 0.85) if asked.private else (0.0, 0.0, 0.0)
    return PrivacyPlan(asked.private, unit, "add/remove", 1e-5, 1, 0.05, 45, 4, 1, asked.rounds, 100, *noise)


def page(asked: Study | None = None, card: Card = CARD, **changes: Any) -> str:
    asked = asked or study()
    phases = ["one_shot"] + ["train"] * asked.rounds + ["evaluate"]
    usual: dict[str, Any] = {
        "study": asked,
        "card": card,
        "plan": plan(asked, card.unit),
        "run": "chest-20250101T000000Z",
        "epsilon": 9.987 if asked.private else inf,
        "by_site": [
            {"site": name, "training": 9.987, "held_out": 8.5, "account": 12.5, "cap": 20.0} for name in SITES
        ],
        "metrics": {"released": {"accuracy": 0.811, "balanced_accuracy": 0.801, "auc": 0.931}},
        "history": [{"round": r, "phase": phase, "sites": SITES} for r, phase in enumerate(phases)],
        "samples_png": b"samples",
        "curves_png": b"curves",
        "duration_seconds": 151.2,
        "environment": {"python": "3.11", "packages": {"torch": "2.13.0"}},
        "simulated": True,
    }
    return render_report(**(usual | changes))


def test_the_page_tells_its_story_in_the_order_of_a_reader() -> None:
    text = Page(page(metrics={"released": {"auc": 0.931}, "public": PUBLIC})).text
    heads = ["What is protected", "Samples", "Is it useful?", "Does it look real?", "Does it copy patients?"]
    heads += ["What each site spent", "Over the rounds", "What left the sites", "How to use", "Settings"]
    places = [text.index(head) for head in heads]
    assert places == sorted(places)
    for said in (
        "3 simulated hospitals",
        "ε = 9.987",
        "δ = 1e−5",
        "add/remove",
        "Not for diagnosis",
        "2 min 31 s",
    ):
        assert said in text


def test_real_hospitals_are_not_called_simulated_and_their_caps_stay_theirs() -> None:
    by_site = [{"site": name, "training": 9.987, "held_out": 8.5, "account": 12.5} for name in SITES]
    text = Page(page(simulated=False, by_site=by_site)).text
    assert "3 hospitals trained" in text
    assert "simulated" not in text
    assert "Real images" not in text
    assert "Cap Left" not in text
    assert "the caps are theirs to know" in text
    assert "12.5" in text


def test_nothing_is_loaded_from_outside_and_no_script_runs() -> None:
    html = page()
    tags = Page(html).tags
    sources = [
        attributes[name] or "" for _, attributes in tags for name in ("src", "href") if name in attributes
    ]
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not {"script", "link", "a", "iframe", "object"} & {tag for tag, _ in tags}
    assert not re.search(r"url\(|@import", html)
    assert b64encode(b"samples").decode() in html
    assert b64encode(b"curves").decode() in html


def test_people_who_do_not_see_are_told() -> None:
    tags = Page(page(metrics={"public": PUBLIC})).tags
    assert ("html", {"lang": "en"}) in tags
    assert all(attributes.get("alt") for tag, attributes in tags if tag == "img")
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in tags if tag == "th")


def test_every_text_is_escaped() -> None:
    card = replace(CARD, name="<script>alert(1)</script>", source='"><img src=x>')
    html = page(card=card, by_site=[{"site": "<i>north"}], run="<u>run", environment={"<s>": "<q>"})
    for tag in ("<b>\n", "<script", "<img src=x", "<i>", "<u>", "<s>", "<q>"):
        assert tag not in html
    assert "--labels 'normal=500,<b>=500'" in Page(html).text


def test_without_privacy_the_page_is_loud_and_promises_nothing() -> None:
    text = Page(page(study(mode="off"))).text
    assert text.count("NOT PRIVATE") >= 2
    assert "ε = ∞" in text
    assert "What is protected" not in text
    assert "Gaussian noise" not in text
    assert "NOT PRIVATE" not in Page(page()).text


def test_public_sets_show_synthetic_beside_real() -> None:
    text = Page(page(metrics={"released": {"auc": 0.931}, "public": PUBLIC})).text
    for said in (
        "AUC 0.949 0.981 −0.032 0.931",
        "Fréchet distance 12.3 2.2 5.59",
        "Share nearer to training 0.512",
    ):
        assert said in text
    assert f"Kernel distance {NOT_ASSESSED} {NOT_ASSESSED} {NOT_ASSESSED}" in text


def test_private_sets_show_the_noisy_figures_alone_and_say_why() -> None:
    text = Page(page(card=replace(CARD, public=False))).text
    assert "AUC 0.931" in text
    assert "Trained on real" not in text
    assert "Real images are shown" not in text
    assert text.count("in each site's own report") == 3


def test_figures_of_real_images_that_are_not_public_are_refused() -> None:
    with pytest.raises(RefusedError, match="may not leave"):
        page(card=replace(CARD, public=False), metrics={"public": PUBLIC})


@pytest.mark.parametrize("metrics", [{}, {"released": None}, {"released": {"auc": nan, "accuracy": "nan"}}])
def test_missing_figures_are_not_assessed(metrics: dict[str, Any]) -> None:
    assert f"AUC {NOT_ASSESSED}" in Page(page(metrics=metrics)).text


def test_what_left_is_what_was_done() -> None:
    text = Page(page(study(share="generator"))).text
    assert "3 rounds, 3 sites weights of the generator;" in text
    assert "Gaussian noise of 1.25 times that" in text
    none = Page(page(study(rounds=0))).text
    assert "by a one-shot query alone" in none
    assert "Adversarial rounds" not in none
    assert "embedding mismatch" in page(study(rounds=0))


GATE = {
    "kept": "refined",
    "gain": 0.031,
    "low": 0.004,
    "high": 0.058,
    "noise": 0.011,
    "error_rate": 0.0024,
    "resolved": 0.018,
    "patients": 405.0,
    "refined_accuracy": 0.874,
}


def test_the_gate_tells_what_it_kept_and_how_sure_that_is() -> None:
    text = Page(page(metrics={"gate": GATE})).text
    assert "The refined generator was kept : the gate found that the rounds gained accuracy" in text
    assert "0.031, 95 % from 0.004 to 0.058" in text
    assert "over a nominal 405 patients" in text
    assert "with a probability of 0.0024, and of one of 0.018 or more" in text
    assert "holds 0" not in text
    assert "Whatever the gate says, the refined generator's accuracy is 0.874, by the noisy figures" in text
    assert "One-shot start Refined" not in text
    null = {"kept": "one_shot", "gain": -0.01, "low": -0.04, "high": 0.02}
    text = Page(page(metrics={"gate": GATE | null})).text
    assert "The generator of the one-shot start was kept" in text
    assert "The interval holds 0, so no difference between the two is shown." in text
    assert "Did the adversarial rounds help?" not in Page(page()).text


def test_of_public_sets_the_gate_tells_both_generators_figures() -> None:
    candidates = {"one_shot": {"accuracy": 0.852}, "refined": {"accuracy": 0.883}}
    metrics = {"gate": GATE, "public": PUBLIC | {"candidates": candidates}}
    text = Page(page(metrics=metrics)).text
    assert "Accuracy 0.852 0.883" in text
    assert "refined generator's accuracy is" not in text
    off = Page(page(study(mode="off"), metrics=metrics)).text
    assert "probability" not in off
    with pytest.raises(RefusedError, match="may not leave"):
        page(card=replace(CARD, public=False), metrics=metrics)


def test_sets_without_patients_say_that_the_unit_is_the_image() -> None:
    text = Page(page(card=replace(CARD, unit="image"))).text
    assert "no patient keys: a person with several images is protected less" in text


@pytest.mark.parametrize(
    ("account", "cap", "left"),
    [
        (12.5, 20.0, "7.5"),
        (21, 20, "0"),
        ("inf", 20, "0"),
        (1, "inf", "∞"),
        (None, 20, NOT_ASSESSED),
        (1, nan, NOT_ASSESSED),
    ],
)
def test_what_is_left(account: object, cap: object, left: str) -> None:
    assert figure(spending({"site": "north", "account": account, "cap": cap})["left"]) == left


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.12345, "0.123"),
        (-1, "−1"),
        (inf, "∞"),
        (-inf, "−∞"),
        ("nan", NOT_ASSESSED),
        ("?", NOT_ASSESSED),
        (None, NOT_ASSESSED),
    ],
)
def test_figures_are_for_people(value: object, said: str) -> None:
    assert figure(value) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(4, "4 s"), (151.4, "2 min 31 s"), (7260, "2 h 1 min"), (nan, NOT_ASSESSED), (-1, NOT_ASSESSED)],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
