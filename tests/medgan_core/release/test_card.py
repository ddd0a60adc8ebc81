import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medgan_core.messages import Receipt
from medgan_core.privacy.accounting import epsilon
from medgan_core.release.bundle import Release
from medgan_core.release.card import ReleaseCard, plain
from medgan_core.release.card_text import markdown, words
from tests.medgan_core.release.making import CARD, GATE, build


def test_the_card_survives_json(release: Release) -> None:
    text = json.dumps(release.card.to_json(), allow_nan=False)
    assert ReleaseCard.model_validate(json.loads(text)) == release.card


def test_what_the_card_says(release: Release) -> None:
    card, plan = release.card, release.card.plan
    assert (card.privacy, card.private, card.unit, card.neighbours) == ("dp", True, "patient", "add/remove")
    assert [site.site for site in card.sites] == ["north", "south"]
    for site in card.sites:
        assert site.epsilon_training == epsilon(plan.events("training"), plan.delta)
        assert site.epsilon_held_out == epsilon(plan.events("held_out"), plan.delta)
        assert site.epsilon == max(site.epsilon_training, site.epsilon_held_out)
        assert site.training_rounds == 1
    assert card.epsilon == max(site.epsilon for site in card.sites)
    told = {"gate": GATE, "accuracy": 0.81, "auc": "nan", "public": {"frechet": 1.5}}
    assert card.metrics == told
    assert card.created.endswith("+00:00")
    assert card.environment["packages"]["torch"]
    assert "no secure sum" in card.trust_model


def test_the_markdown_is_for_people(release: Release) -> None:
    text = markdown(release.card)
    assert words(release.card).startswith("# Generator of synthetic images: tiny")
    assert text.endswith(words(release.card))
    for part in (
        "## Whose data",
        "## What is promised",
        "## What each site spent",
        "## How the noise was made",
        "## How good it is",
        "## Intended use",
        "## Forbidden use",
        "## What is not protected",
        "## Where it comes from",
        "PneumoniaMNIST",
        "CC BY 4.0",
        "https://medmnist.com",
        "normal, pneumonia",
        "28 × 28 pixels, grey",
        "north, south",
        "unit: patient",
        "a patient counts at most at one site",
        "PRV (Opacus)",
        "Noise is added locally",
        "Diagnosis",
        "re-identify",
        "(timing)",
        "may look like a real one",
        "share of normal (noisy) | 0.300",
        "public.frechet | 1.5",
        release.card.generator_sha256,
    ):
        assert part in text
    assert "NOT PRIVATE" not in text


def test_the_card_says_what_the_gate_chose_and_how_sure_that_is(release: Release) -> None:
    text = markdown(release.card)
    for part in (
        "The gate kept the refined generator",
        "+0.0120 (95 % from -0.0200 to +0.0440, no difference is shown)",
        "a nominal 270 patients",
        "with a probability of 0.14",
        "| gate, noise multiplier |",
        "Gate and evaluation looked at patients that were held out",
    ):
        assert part in text
    told = release.card.metrics | {"gate": GATE | {"kept": "one_shot", "gain": -0.1, "high": -0.01}}
    other = markdown(release.card.model_copy(update={"metrics": told}))
    assert "The gate kept the generator of the one-shot start" in other
    assert "no difference is shown" not in other


def test_without_a_gate_the_card_does_not_speak_of_one(tmp_path: Path) -> None:
    text = markdown(build(tmp_path / "r", {"evaluation.gate": False}).card).lower()
    assert "the gate kept" not in text
    assert "gate, noise" not in text


def test_not_private_is_the_first_thing(public_folder: Path) -> None:
    card = Release.open(public_folder).card
    assert "NOT PRIVATE" in words(card).splitlines()[0]
    assert markdown(card).splitlines()[1].startswith("# NOT PRIVATE")
    assert json.loads((public_folder / "card.json").read_text())["privacy"] == "NOT PRIVATE"
    assert card.to_json()["epsilon"] == "inf"
    assert math.isinf(card.epsilon)
    assert "∞" in markdown(card)
    assert "No noise was added" in markdown(card)
    assert "Noise is added" not in markdown(card)


def test_a_set_without_patient_keys_says_so(tmp_path: Path) -> None:
    made = build(tmp_path / "r", card=replace(CARD, unit="image", public=False, source=""))
    text = markdown(made.card)
    assert "unit: image – protects single images, not patients" in text
    assert "add/remove one image" in text
    assert "not declared public carries privacy noise" in text
    assert "source | not stated" in text


def test_the_release_pays_for_a_patient_at_several_sites(tmp_path: Path) -> None:
    card = build(tmp_path / "r", {"privacy.max_sites_per_patient": 2}).card
    assert card.epsilon > max(site.epsilon for site in card.sites)
    assert card.epsilon == pytest.approx(card.plan.epsilon(), rel=1e-9)
    assert "at most at 2 sites" in markdown(card)


def test_a_site_that_missed_a_round_spent_less(tmp_path: Path) -> None:
    def missed(receipts: list[Receipt]) -> list[Receipt]:
        return [r for r in receipts if (r.site, r.round) != ("north", 1)]

    north, south = build(tmp_path / "r", {"sites.quorum": 1}, edit=missed).card.sites
    assert north.training_rounds == 0
    assert north.epsilon_training < south.epsilon_training


def test_earlier_runs_are_on_the_card(tmp_path: Path) -> None:
    def earlier(receipts: list[Receipt]) -> list[Receipt]:
        return [replace(r, spent=r.spent + 7.25) for r in receipts]

    site = build(tmp_path / "r", edit=earlier).card.sites[0]
    assert site.account_epsilon_training == pytest.approx(site.epsilon_training + 7.25)


def test_words_cannot_break_the_tables(tmp_path: Path) -> None:
    text = markdown(build(tmp_path / "r", card=replace(CARD, source="a|b\n# c <script>")).card)
    assert "| source | a/b # c ‹script› |" in text


def test_no_metrics(release: Release) -> None:
    assert "No figures left the sites" in markdown(release.card.model_copy(update={"metrics": {}}))


def test_metrics_become_plain_json() -> None:
    value = {"a": np.float32(0.5), "b": torch.tensor([1.0, math.inf]), 3: (None, "x", 2), "c": np.arange(2)}
    assert plain(value) == {"a": 0.5, "b": [1.0, "inf"], "3": [None, "x", 2], "c": [0, 1]}
