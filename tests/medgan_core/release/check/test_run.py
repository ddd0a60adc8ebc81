"""A check from its beginning to a release that was written anew."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from medgan_core.errors import InputError, MedGANError, RefusedError, ReleaseError
from medgan_core.release.bundle import Release
from medgan_core.release.check import run
from medgan_core.release.check.policy import Policy
from medgan_core.release.check.run import check_release, demand
from medgan_core.release.files import CHECKED, FILES, MANIFEST, SIGNATURE, created
from medgan_core.release.verify import verify_release
from tests.medgan_core.release.check.making import LENIENT, TWIN, build_attacked, metrics_with
from tests.medgan_core.release.making import CARD, Parties, build, rewrite

WHO = "A. Board: nothing here is real"


@pytest.fixture
def twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a twin had been overfitted: that takes a minute, and is tested where it is made."""
    monkeypatch.setattr(run, "_twin", lambda release, say: dict(TWIN))


def attacked(parties: Parties, folder: Path, auc: float) -> Path:
    build_attacked(parties, folder, auc)
    return folder


def test_a_checked_release_holds_report_and_samples_and_is_signed(checked: Path, parties: Parties) -> None:
    names = {path.relative_to(checked).as_posix() for path in checked.rglob("*") if path.is_file()}
    samples = {f"samples/{number:04d}.dcm" for number in range(4)}
    assert names == {*FILES, *CHECKED, *samples, MANIFEST, SIGNATURE}
    assert json.loads((checked / MANIFEST).read_text())["format"] == 3
    verified = verify_release(checked, parties.trust)
    text = "\n".join(verified.lines)
    assert (
        f"the release check says inconclusive, which follows from its figures and policy; accepted by {WHO}"
        in text
    )
    assert "samples/: 4 DICOM files are what the generator draws" in text
    assert verified.signers
    assert verified.warnings == ()


def test_the_card_tells_of_the_check(checked: Path) -> None:
    words = (checked / "card.md").read_text()
    for part in (
        "## Release check",
        "## What was attacked",
        "## Scorecard of the seven Cs",
        "EDPB Opinion 28/2024",
        "## Subgroups",
        "## Total spend, with tuning and evaluation",
        "## Hashes that can be computed again",
        "## By NIST SP 800-226",
        "## Forbidden use",
        "privacy@clinic.example",
        WHO,
    ):
        assert part in words
    assert words.startswith("---\n")


def test_what_a_release_is_does_not_change_with_a_check(parties: Parties, tmp_path: Path) -> None:
    before = parties.build(tmp_path / "release", metrics=metrics_with())
    made = created(before.folder)
    check_release(before.folder, LENIENT, parties.coordinator)
    after = Release.open(before.folder)
    assert created(after.folder) == made
    assert after.card.check is not None
    assert after.card.model_copy(update={"check": None}).to_json() == before.card.to_json()
    assert [path.name for path in tmp_path.iterdir()] == ["release"]


@pytest.mark.usefixtures("twin")
@pytest.mark.parametrize(("auc", "verdict"), [(0.52, "pass"), (0.9, "fail")])
def test_attacks_decide_and_verify_says_the_same(
    parties: Parties, tmp_path: Path, auc: float, verdict: str
) -> None:
    folder = attacked(parties, tmp_path / "release", auc)
    found = check_release(folder, LENIENT, parties.coordinator, WHO)
    assert (found.verdict, found.accepted) == (verdict, "")
    verified = verify_release(folder, parties.trust)
    assert any(f"the release check says {verdict}" in line for line in verified.lines)
    assert any("failed" in line for line in verified.warnings) == (verdict == "fail")


def test_a_second_check_by_the_same_policy_tries_nothing_again(
    parties: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def twin(release: Release, say: object) -> Mapping[str, float]:
        tried.append("twin")
        return {**TWIN, "nearest": 0.5, "discriminator": 0.5}

    monkeypatch.setattr(run, "_twin", twin)
    folder = attacked(parties, tmp_path / "release", 0.52)
    first = check_release(folder, LENIENT, parties.coordinator)
    assert (first.verdict, first.may_leave) == ("inconclusive", False)
    with pytest.raises(RefusedError, match=r"attacks on the generator.*--accept-inconclusive"):
        demand(first)
    second = check_release(folder, LENIENT, parties.coordinator, WHO)
    assert (second.may_leave, second.accepted) == (True, WHO)
    demand(second)
    assert check_release(folder, LENIENT, parties.coordinator).accepted == WHO
    assert tried == ["twin"]
    check_release(folder, LENIENT.model_copy(update={"max_epsilon": 11.0}), parties.coordinator)
    assert tried == ["twin", "twin"]
    assert Release.open(folder).card.check is not None


def test_a_failed_release_may_not_leave_whoever_accepts_it(parties: Parties, tmp_path: Path) -> None:
    folder = parties.build(tmp_path / "release", metrics=metrics_with()).folder
    found = check_release(folder, Policy(), parties.coordinator, WHO)
    assert (found.verdict, found.may_leave) == ("fail", False)
    with pytest.raises(MedGANError, match="failed: variety of a class, near-duplicates") as caught:
        demand(found)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("accepted", ["yes", ": why", "A. Board:", "A. Board: a\nb"])
def test_an_acceptance_has_a_name_and_a_reason(parties: Parties, tmp_path: Path, accepted: str) -> None:
    folder = parties.build(tmp_path / "release", metrics=metrics_with()).folder
    with pytest.raises(InputError, match="NAME: reason"):
        check_release(folder, LENIENT, parties.coordinator, accepted)


def test_what_was_tampered_with_is_not_checked(parties: Parties, tmp_path: Path) -> None:
    folder = parties.build(tmp_path / "release", metrics=metrics_with()).folder
    rewrite(folder, "card.json", lambda body: body | {"epsilon": 0.1})
    with pytest.raises(ReleaseError, match=r"^card.json: epsilon"):
        check_release(folder, LENIENT, parties.coordinator)


def test_a_full_disk_leaves_the_earlier_release(
    parties: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = parties.build(tmp_path / "release", metrics=metrics_with()).folder

    def full(part: Path, made: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run, "write_manifest", full)
    with pytest.raises(MedGANError, match="No space left"):
        check_release(folder, LENIENT, parties.coordinator)
    assert Release.open(folder).card.check is None
    assert [path.name for path in tmp_path.iterdir()] == ["release"]


@pytest.mark.parametrize(
    "changes", [{"privacy.mode": "off"}, {"task": "restoration"}, {"task": "segmentation"}]
)
def test_releases_without_privacy_or_of_networks_have_no_samples(
    parties: Parties, tmp_path: Path, changes: dict[str, str]
) -> None:
    more = {} if "task" not in changes else {"training.latent_size": 4}
    channels = 2 if changes.get("task") == "segmentation" else 1
    card = CARD if channels == 1 else type(CARD)(**{**vars(CARD), "image_shape": (2, 28, 28)})
    parties.build(tmp_path / "release", {**changes, **more}, card=card, metrics=metrics_with())
    check_release(tmp_path / "release", LENIENT, parties.coordinator, WHO)
    assert not (tmp_path / "release" / "samples").exists()
    verify_release(tmp_path / "release", parties.trust)


def test_without_a_key_of_the_sites_the_check_fails_by_default(tmp_path: Path, parties: Parties) -> None:
    build(tmp_path / "release", metrics=metrics_with())
    assert check_release(tmp_path / "release", LENIENT, parties.coordinator).verdict == "fail"


def test_attacks_that_the_study_did_not_ask_for_are_no_evidence(parties: Parties, tmp_path: Path) -> None:
    release = build_attacked(parties, tmp_path / "release", 0.9)

    def fewer(card: dict[str, Any]) -> None:
        told = card["metrics"]["attacks"]
        for name in ("names", "members", "held_out"):
            told[name] = told[name][1:]

    rewrite(release.folder, "card.json", fewer)
    with pytest.raises(ReleaseError, match=r"card\.json: attacks is \('nearest', "):
        verify_release(release.folder)
