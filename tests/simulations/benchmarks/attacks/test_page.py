"""The page says what was measured, and the picture shows it."""

from pathlib import Path
from typing import Any

import torch

from medgan_core.record import read_json
from simulations.attacks.planted import shares
from simulations.benchmarks.attacks.inverting import Inverted
from simulations.benchmarks.attacks.page import canary_table, inversion_table, page, planted_table
from simulations.benchmarks.attacks.planting import KINDS, most_alike, patterns, told
from simulations.benchmarks.attacks.plots import inversions, picture
from simulations.benchmarks.attacks.setting import Level, small_study
from tests.simulations.attacks.making import smooth

KIND = {"rate": 0.9, "reference": 0.01, "rank": 0.005, "found": 1, "of": 1}
BODY: dict[str, Any] = {
    "command": "medgan-sim bench attacks",
    "seconds": 300,
    "processor_seconds": 240,
    "inversion": [
        {"attack": name, "privacy": level, "psnr": psnr, "mean_image": 19.0, "victims": 8}
        for level, psnr in (("not private", 51.6), ("ε = 10", 14.2))
        for name in ("features", "latents", "samples")
    ],
    "canary": [
        {"canary": "one patient", "privacy": "ε = 1", "seen": "each update"}
        | {"found": 0.1, "chance": 0.2, "cosine": 0.0, "trials": 10}
        | {"cosine_of_sum": 0.21, "cosine_without_canary": 0.02}
    ],
    "planted": [{"planted": "every image of a site", "privacy": "not private", "patch": KIND, "text": KIND}],
}


def test_every_figure_is_on_the_page_beside_the_command() -> None:
    text = page(BODY, "attacks.png")
    for part in ("4 minutes", "medgan-sim bench attacks", "![", "| 51.6 | 14.2 |", "0.21", "0.02"):
        assert part in text
    for table in (inversion_table(BODY["inversion"]), canary_table(BODY["canary"])):
        assert table in text
    assert planted_table(BODY["planted"]) in text
    assert max(map(len, text.splitlines())) <= 200


def test_the_page_in_docs_is_that_of_the_figures_beside_it() -> None:
    docs = Path(__file__).parents[4] / "docs"
    body = read_json(docs / "attacks.json")
    assert (docs / "attacks.md").read_text(encoding="utf-8") == page(body, "attacks.png")
    private = [row for row in body["inversion"] if row["privacy"] == "ε = 10"]
    assert all(row["psnr"] <= row["mean_image"] + 1 for row in private)
    assert max(row["psnr"] for row in body["inversion"]) >= 20


def test_the_picture_has_a_row_for_each_attack_and_is_the_same_at_every_call() -> None:
    images = smooth(3)
    guesses = dict.fromkeys(("features", "latents", "samples"), images)
    tried = [Inverted(Level(name), images, images, guesses) for name in ("off", "10")]
    assert [name for name, _ in inversions(tried)][:2] == ["patients", "mean image of the generator"]
    assert len(inversions(tried)) == 8
    panels = [("somewhere", images)]
    assert picture(tried, panels) == picture(tried, panels)
    assert picture(tried, panels).startswith(b"\x89PNG")


def test_psnr_is_the_mean_over_victims_beside_that_of_the_mean_image() -> None:
    images = smooth(2)
    (row,) = Inverted(Level("10"), images, images + 0.2, {"features": images + 0.02}).rows()
    assert (row["psnr"], row["mean_image"], row["privacy"]) == (40.0, 20.0, "ε = 10")


def test_the_most_similar_images_come_first() -> None:
    images = smooth(9)
    (pattern, _) = patterns(0)
    images[7, :, 1:13, 1:13] = pattern.pixels
    assert torch.equal(most_alike(images, pattern, 2)[0], images[7])


def test_what_is_told_of_clean_images_finds_little() -> None:
    row = told(smooth(60, 1), smooth(60, 2), "patch", range(4))
    assert row["of"] == 4
    assert row["found"] <= 2
    assert set(KINDS) == {"patch", "text"}
    assert shares(smooth(20), patterns(0)[:1] * 2).shape == (2,)


def test_a_level_is_named_as_people_do_and_sets_what_it_says() -> None:
    assert [str(Level(name)) for name in ("off", "10")] == ["not private", "ε = 10"]
    assert not small_study(privacy__mode="off").private
    assert Level("1").settings == {"privacy.epsilon": 1.0}
    assert Level("off").settings == {"privacy.mode": "off"}
