"""A small benchmark from its command to its page, interrupted and gone on with."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
import torch

from client.site import RandomFor
from medgan_core.config import Study
from medgan_core.data.source import Site
from medgan_core.errors import ConfigError
from medgan_core.seeds import Seeds
from simulations import cli
from simulations.benchmarks.baselines import METHODS
from simulations.benchmarks.baselines.method import Sampler
from simulations.benchmarks.utility.grid import Grid
from simulations.benchmarks.utility.measure import judged, measure
from simulations.benchmarks.utility.rows import rows_of
from simulations.hospitals import Launch
from simulations.progress import Silent
from tests.simulations.benchmarks.making import SMALL, small_file, small_sites, small_study
from tests.simulations.making import Seeded


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Each training, by method and number of sites; methods take a few steps."""
    heard: list[tuple[str, int]] = []

    def listening(name: str) -> Callable[..., Sampler]:
        @wraps(SMALL[name])
        def train(study: Study, sites: Sequence[Site], seeds: Seeds, random: RandomFor) -> Sampler:
            heard.append((name, len(sites)))
            return SMALL[name](study, sites, seeds, random)

        return train

    for name, method in list(METHODS.items()):
        monkeypatch.setitem(METHODS, name, replace(method, train=listening(name)))
    return heard


def run(grid: Grid, path: Path, data: Path, public: bool = True) -> None:
    measure(grid, path, Launch(data=str(data), public=public), Silent(), Seeded(1))


def test_rows_are_kept_and_not_measured_again(asked: list[Any], data: Path, tmp_path: Path) -> None:
    study, path = str(small_file(tmp_path, rounds=0, sites__count=2)), tmp_path / "utility.json"
    few = Grid.of([study], ["medgan", "real"], (8.0,), (), 1)
    run(few, path, data)
    assert asked == [("medgan", 2), ("real", 2)]
    first, real = rows_of(path)
    assert (first.key, real.key) == (("medgan", "tiny", 8.0, 2, 0), ("real", "tiny", inf, 1, 0))
    assert 7 < first.spent <= 8
    assert real.spent == inf
    assert all(0 <= figure <= 1 for one in (first, real) for figure in (one.accuracy, one.auc))
    run(replace(few, methods=("medgan", "dp-merf", "real")), path, data)
    assert asked[2:] == [("dp-merf", 2)]
    run(replace(few, methods=("medgan",), settings=("one_shot.iterations=3",)), path, data)
    assert asked[3:] == [("medgan", 2)]
    assert len(rows_of(path)) == 3


def test_what_was_done_before_an_interruption_is_kept(
    asked: list[Any], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: Any) -> Sampler:
        raise KeyboardInterrupt

    study, path = str(small_file(tmp_path, sites__count=2)), tmp_path / "utility.json"
    grid = Grid.of([study], ["real", "dp-merf"], (8.0,), (), 1)
    kept = METHODS["real"]
    monkeypatch.setitem(METHODS, "real", replace(kept, train=stop))
    with pytest.raises(KeyboardInterrupt):
        run(grid, path, data)
    monkeypatch.setitem(METHODS, "real", kept)
    run(grid, path, data)
    assert asked == [("dp-merf", 2), ("real", 2)]


def test_sets_that_are_not_public_make_no_row(asked: list[Any], data: Path, tmp_path: Path) -> None:
    grid = Grid.of([str(small_file(tmp_path, sites__count=2))], ["real"], (), (), 1)
    with pytest.raises(ConfigError, match=r"data\.path = 'tiny\.npz': expected a public set"):
        run(grid, tmp_path / "utility.json", data, public=False)
    assert asked == []


def test_images_that_are_not_finite_have_no_scores() -> None:
    images = torch.full((4, 1, 28, 28), nan)
    sampler = Sampler(lambda count, seeds: (images, torch.arange(4) % 2), 1.0)
    assert str(judged(small_study(), small_sites(), sampler).accuracy) == "nan"


def test_the_judge_draws_the_images_that_the_study_asks_for() -> None:
    counts: list[int] = []
    site = small_sites()[0].training

    def draw(count: int, seeds: Seeds) -> tuple[torch.Tensor, torch.Tensor]:
        counts.append(count)
        return site.images, site.labels

    scores = judged(small_study(evaluation__synthetic_images=123), small_sites(), Sampler(draw, 1.0))
    assert counts == [123]
    assert 0 <= scores.balanced_accuracy <= 1


def test_the_command_measures_and_writes_the_page(
    asked: list[Any],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = small_file(tmp_path, rounds=0, sites__count=2)
    words = ["--studies", str(study), "--methods", "medgan,real", "--epsilons", "8", "--seeds", "1"]
    rest = ["--data", str(data), "--public-data", "--results", str(tmp_path / "u.json")]
    monkeypatch.setattr(sys, "argv", ["medgan-sim", "bench", "utility", *words, *rest])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert not caught.value.code
    assert "| 2 | 8 | medgan |" in capsys.readouterr().out
    told = f"medgan-sim bench utility --studies {study} --epsilons 8 --methods medgan,real --seeds 1 "
    assert f"{told}--public-data\n" in (tmp_path / "u.md").read_text()
