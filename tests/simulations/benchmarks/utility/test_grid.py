"""Which cells are measured, with which studies, and what their digests bind."""

from dataclasses import replace
from itertools import pairwise
from math import inf
from pathlib import Path

import pytest

from medgan_core.errors import ConfigError, InputError
from simulations.benchmarks.baselines import METHODS
from simulations.benchmarks.utility.grid import EPSILONS, SITES, Cell, Grid, cells, resolved
from tests.simulations.benchmarks.making import small_file


def points(grid: Grid, name: str) -> set[tuple[float, int]]:
    return {cell.key[2:4] for cell in cells(grid) if cell.name == name}


def test_by_itself_every_epsilon_and_every_number_of_sites_is_tried_once() -> None:
    grid = Grid.of(["pneumonia"], list(METHODS), (), (), 1)
    own = {(epsilon, 3) for epsilon in EPSILONS} | {(10.0, count) for count in SITES}
    assert points(grid, "medgan") == points(grid, "dp-merf") == points(grid, "fedavg-local") == own
    assert points(grid, "medgan-sum") == {(e, k) for e, k in own if e < inf and k >= 3}
    assert points(grid, "dp-gan") == points(grid, "pooled") == {(epsilon, 1) for epsilon in EPSILONS}
    assert points(grid, "real") == {(inf, 1)}
    keys = [cell.key for cell in cells(grid)]
    assert len(keys) == len(set(keys))


def test_one_list_goes_with_the_studys_own_other_and_two_make_all_pairs() -> None:
    assert points(Grid.of(["pneumonia"], ["medgan"], (1.0, inf), (), 1), "medgan") == {(1.0, 3), (inf, 3)}
    assert points(Grid.of(["pneumonia"], ["medgan"], (), (2, 5), 1), "medgan") == {(10.0, 2), (10.0, 5)}
    pairs = {(1.0, 2), (1.0, 5), (4.0, 2), (4.0, 5)}
    assert points(Grid.of(["pneumonia"], ["medgan"], (1.0, 4.0), (2, 5), 1), "medgan") == pairs


def test_cells_of_the_same_sites_come_together_with_every_seed() -> None:
    made = cells(Grid.of(["pneumonia", "mednist"], ["medgan", "dp-gan"], (1.0, 4.0), (3, 5), 2))
    places = [cell.place for cell in made]
    assert sum(one != two for one, two in pairwise(places)) == len(set(places)) - 1
    assert {cell.study.seed for cell in made} == {0, 1}
    assert {cell.study.name for cell in made} == {"pneumonia", "mednist"}


def test_an_unknown_method_is_told() -> None:
    with pytest.raises(InputError, match=r"--methods gs-wgan: expected some of medgan, "):
        Grid.of(["pneumonia"], ["medgan", "gs-wgan"], (), (), 1)


def test_nominal_patients_are_divided_anew_and_charges_are_capped_at_epsilon() -> None:
    study = resolved("pneumonia", (), 2.0, 10, 4)
    assert (study.privacy.epsilon, study.sites.epsilon_cap, study.seed) == (2.0, 2.0, 4)
    assert (study.sites.count, study.sites.nominal_patients) == (10, 270)
    assert study.private
    own = resolved("pneumonia", (), None, None, 0)
    assert (own.privacy.epsilon, own.sites.count, own.sites.nominal_patients) == (10.0, 3, 900)
    assert not resolved("pneumonia", ["privacy.secure_sum=true"], None, None, 0).privacy.secure_sum
    assert not resolved("pneumonia", (), inf, 1, 0).private
    assert not resolved("pneumonia", ["privacy.mode=off"], None, None, 0).private


def test_settings_reach_the_study(tmp_path: Path) -> None:
    path = str(small_file(tmp_path))
    assert resolved(path, ["rounds=7"], 1.0, None, 0).rounds == 7
    with pytest.raises(ConfigError, match="rounds2"):
        cells(Grid.of([path], ["medgan"], (), (), 1, ["rounds2=7"]))


def test_a_digest_binds_method_settings_and_study(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(name: str, epsilon: float = 1.0, seed: int = 0, *settings: str) -> str:
        return Cell(name, resolved("pneumonia", settings, epsilon, None, seed)).digest()

    first = digest("dp-merf")
    assert digest("dp-merf") == first
    others = [digest("dp-gan"), digest("dp-merf", 2.0), digest("dp-merf", 1.0, 1)]
    others.append(digest("dp-merf", 1.0, 0, "evaluation.synthetic_images=5000"))
    changed = replace(METHODS["dp-merf"], setup={**METHODS["dp-merf"].setup, "batch": 7})
    monkeypatch.setitem(METHODS, "dp-merf", changed)
    others.append(digest("dp-merf"))
    assert len({first, *others}) == 6
