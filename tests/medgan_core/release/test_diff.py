import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from medgan_core.release.bundle import Release
from medgan_core.release.diff import Difference, differences, table, to_json
from tests.medgan_core.release.making import Parties, build


@pytest.fixture(scope="module")
def wider(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Another release, with other noise, another width and an end."""
    changes = {
        "privacy.noise_multiplier": 4.0,
        "training.generator_width": 8,
        "release.valid_days": 30,
    }
    return build(tmp_path_factory.mktemp("wider") / "release", changes, proportions=(0.5, 0.5))


def test_a_release_differs_in_nothing_from_itself(release: Release) -> None:
    assert differences(release, release) == ()


def test_all_that_differs_is_told_in_order(release: Release, wider: Release) -> None:
    found = differences(release, wider)
    by_name = {(d.part, d.name): (d.first, d.second) for d in found}
    assert by_name["study", "training.generator_width"] == (4, 8)
    assert by_name["study", "release.valid_days"] == (0, 30)
    assert by_name["data", "proportions"] == ([0.3, 0.7], [0.5, 0.5])
    assert by_name["plan", "noise_multiplier"] == (2.0, 4.0)
    first, second = by_name["sites", "north.epsilon_training"]
    assert first > second
    assert by_name["privacy", "expires"] == ("", wider.card.expires)
    assert ("weights", "first.weight") in by_name
    parts = [d.part for d in found]
    assert parts == sorted(
        parts, key=["study", "data", "privacy", "plan", "sites", "metrics", "weights"].index
    )


def test_weights_of_the_same_shape_have_a_distance(release: Release) -> None:
    moved = {name: array * 1.5 for name, array in release.weights.items()}
    other = Release(release.folder, release.card, release.study, release.receipts, release.facts, moved)
    found = {d.name: d.second for d in differences(release, other)}
    assert found["relative distance"] == pytest.approx(0.5, rel=0.01)
    assert found.keys() == {"relative distance", "largest difference of a weight"}


def test_it_is_plain_json_and_a_table(release: Release, wider: Release) -> None:
    found = differences(release, wider)
    assert len(json.loads(json.dumps(to_json(found), allow_nan=False))) == len(found)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table([*found, Difference("study", "[x]", None, [1])], "old", "new"))
    text = console.export_text()
    assert "training.generator_width" in text
    assert "[x]" in text


def test_keys_differ_where_other_sites_signed(tmp_path: Path, release: Release, parties: Parties) -> None:
    names = {d.name for d in differences(release, parties.build(tmp_path / "signed"))}
    assert names <= {"verify_keys"}
