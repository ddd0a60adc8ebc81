from dataclasses import replace
from pathlib import Path

from medgan_core.release.bundle import Release
from medgan_core.release.card_text import words
from medgan_core.release.privacy_facts import privacy_facts
from tests.medgan_core.release.making import CARD, build


def test_what_nist_asks_is_told(release: Release) -> None:
    facts = privacy_facts(release.card)
    assert f"{release.card.epsilon:.4g}" in facts["guarantee"]
    assert facts["unit of privacy"] == "patient, add/remove one"
    assert "Poisson" in facts["sampling assumption"]
    assert "local" in facts["trust model"]
    assert facts.keys() >= {"mechanism", "accountant", "side channels", "cost of tuning", "composition"}
    text = words(release.card)
    assert all(fact.replace("|", "/") in text for fact in facts.values())


def test_nothing_is_claimed_without_privacy(public_folder: Path) -> None:
    facts = privacy_facts(Release.open(public_folder).card)
    assert facts["guarantee"].startswith("none")
    assert facts.keys() == {"guarantee", "unit of privacy"}


def test_what_epsilon_is_composed_of(tmp_path: Path, release: Release) -> None:
    assert "one-shot query, every step, gate, evaluation" in privacy_facts(release.card)["composition"]
    mapper = {"task": "restoration", "data.image_size": 32, "mapping.width": 4}
    card = build(tmp_path / "r", mapper, replace(CARD, image_shape=(1, 32, 32))).card
    assert privacy_facts(card)["composition"].startswith("every step, evaluation of this run")
