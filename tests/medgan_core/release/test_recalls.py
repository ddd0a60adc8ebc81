import json
from pathlib import Path

import pytest

from medgan_core.errors import InputError, ReleaseError
from medgan_core.privacy.sum_keys import new_secret
from medgan_core.release.bundle import Release
from medgan_core.release.recalls import RecallList, recall
from medgan_core.release.verify import verify_release
from tests.medgan_core.release.making import Parties


@pytest.fixture
def recalled(tmp_path: Path, release: Release, parties: Parties) -> Path:
    """A list with the unsigned release on it, by the coordinator."""
    recall(release.card, "a patient\n withdrew", parties.coordinator, tmp_path / "recalls.json")
    return tmp_path / "recalls.json"


def test_a_recalled_release_fails_with_its_reason(recalled: Path, release: Release, signed: Path) -> None:
    listed = RecallList.read(recalled)
    assert [entry.reason for entry in listed.entries] == ["a patient withdrew"]
    with pytest.raises(
        ReleaseError, match=r"^recalls.json: the release was recalled at .*: a patient withdrew"
    ):
        verify_release(release.folder, recalls=listed)


def test_another_release_passes(tmp_path: Path, recalled: Path, parties: Parties) -> None:
    other = parties.build(tmp_path / "other", {"training.latent_size": 5})
    listed = RecallList.read(recalled)
    told = verify_release(other.folder, parties.trust, listed).lines[-1]
    assert told.startswith("recalls.json: list by the coordinator clinic of ")
    assert told.endswith("1 recalled; not this release")
    assert "nobody vouched for" in verify_release(other.folder, None, listed).lines[-1]


def test_a_second_recall_joins_the_first(
    tmp_path: Path, recalled: Path, release: Release, parties: Parties
) -> None:
    other = parties.build(tmp_path / "other", {"training.latent_size": 5})
    listed = recall(other.card, "wrong labels", parties.coordinator, recalled)
    assert [entry.reason for entry in listed.entries] == ["a patient withdrew", "wrong labels"]
    assert RecallList.read(recalled) == listed
    with pytest.raises(InputError, match=r"is on recalls.json already"):
        recall(release.card, "again", parties.coordinator, recalled)


def test_a_list_belongs_to_one_coordinator(recalled: Path, release: Release, parties: Parties) -> None:
    before = recalled.read_bytes()
    with pytest.raises(InputError, match="signed with another key"):
        recall(release.card, "mine", new_secret(), recalled)
    with pytest.raises(InputError, match="--reason"):
        recall(release.card, " ", parties.coordinator, recalled)
    assert recalled.read_bytes() == before


@pytest.mark.parametrize("edit", [{"entries": []}, {"issued": "2030-01-01"}, {"key": "ab" * 32}])
def test_a_list_that_was_changed_is_named(recalled: Path, edit: dict[str, object]) -> None:
    recalled.write_text(json.dumps(json.loads(recalled.read_text()) | edit))
    with pytest.raises(ReleaseError, match=r"^recalls.json was changed"):
        RecallList.read(recalled)


def test_a_list_by_an_unknown_key_is_refused(
    tmp_path: Path, release: Release, signed: Path, parties: Parties
) -> None:
    listed = recall(release.card, "mischief", new_secret(), tmp_path / "recalls.json")
    with pytest.raises(ReleaseError, match=r"^recalls.json: signed by an unknown key"):
        verify_release(signed, parties.trust, listed)


def test_what_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[]")
    for name in ("x.json", "missing.json"):
        with pytest.raises(InputError, match=f"{name}: expected a list of recalls"):
            RecallList.read(tmp_path / name)
