"""The preflight names everything that is wrong, and what to do about it."""

from pathlib import Path

import pytest

import client.check
from client.check import Finding, preflight
from client.folder import SiteFolder
from client.version import source_digest, trainer_version
from tests.client.sites import configure, make_site, proposal, trainer, write_images


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.check, "steps_per_second", lambda *_, **__: 12.5)


@pytest.fixture
def folder(tmp_path: Path) -> SiteFolder:
    return make_site(tmp_path / "site")


def found(folder: SiteFolder, name: str, state: str | None = None) -> list[Finding]:
    return [f for f in preflight(folder, offline=True) if f.name == name and state in (None, f.state)]


def test_a_site_that_is_well_has_nothing_bad(folder: SiteFolder) -> None:
    findings = preflight(folder, offline=True)
    assert not [finding for finding in findings if finding.state == "bad"]
    assert [f.name for f in findings if f.state == "warning"] == ["coordinator"]
    text = "\n".join(finding.text for finding in findings)
    for part in ("fingerprint SHA256:", "12.5 discriminator steps/s", "GiB free", "patients to train on"):
        assert part in text
    for part in ("normal", "epsilon 50 in all", "one_shot: statistics embedding", "nothing else"):
        assert part in text


def test_with_a_proposal_the_check_is_of_that_study(folder: SiteFolder) -> None:
    with trainer(folder) as desk:
        desk.handle(proposal(folder))
    assert "steps/s of tiny" in found(folder, "device")[0].text


@pytest.mark.parametrize(
    ("name", "part"),
    [("keys", "mode 644"), ("data", "images.npz"), ("ledger", "missing"), ("coordinator", "nowhere.crt")],
)
def test_what_is_wrong_is_bad_and_has_a_fix(folder: SiteFolder, name: str, part: str) -> None:
    if name == "keys":
        folder.signing_key.chmod(0o644)
    elif name == "data":
        (folder.path / "images.npz").unlink()
    elif name == "ledger":
        folder.ledger.unlink()
    else:
        configure(folder, coordinator__address='"here:1"', coordinator__root_certificates='"nowhere.crt"')
    [bad] = found(folder, name, "bad")
    assert part in bad.text
    assert bad.fix
    assert str(folder.path) not in bad.text


def test_too_few_patients_and_labels_that_are_not_mapped_are_named(folder: SiteFolder) -> None:
    write_images(folder.path, labels=("normal", "pneumonia", "unklar"))
    configure(folder, policy__least_patients=500, labels={"normal": "normal", "pneumonia": "pneumonia"})
    assert [f.text.split(":")[0] for f in found(folder, "data", "bad")] == ["least_patients"]
    assert "53 images, label 'unklar'" in found(folder, "data", "warning")[0].text


def test_what_a_person_should_think_twice_about_is_a_warning(folder: SiteFolder) -> None:
    configure(folder, data__public=True, policy__privacy_off=True)
    assert len(found(folder, "policy", "warning")) == 2


def test_a_damaged_log_is_found(folder: SiteFolder) -> None:
    folder.log.write_bytes(folder.log.read_bytes().replace(b"site-1", b"site-2"))
    assert "line 1" in found(folder, "ledger", "bad")[0].text


def test_the_device_is_measured() -> None:
    from client.speed import default_study, steps_per_second

    assert steps_per_second(default_study(), seconds=0.05) > 0


def test_a_gpu_that_is_not_there_is_bad_and_has_a_fix(folder: SiteFolder) -> None:
    configure(folder, trainer__device='"cuda:99"')
    [bad] = found(folder, "device", "bad")
    assert "cuda:99" in bad.text
    assert '"auto" or "cpu"' in bad.fix


def test_the_version_is_of_the_source_files(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    before = source_digest({"p": tmp_path})
    assert before == source_digest({"p": tmp_path})
    assert before != source_digest({"q": tmp_path})
    (tmp_path / "note.txt").write_text("no code")
    assert before == source_digest({"p": tmp_path})
    (tmp_path / "a.py").write_text("x = 2\n")
    assert before != source_digest({"p": tmp_path})
    assert "+" in trainer_version()


def test_a_folder_too_deep_for_a_socket_is_told_before_anything_runs(tmp_path: Path) -> None:
    deep = make_site(tmp_path / ("d" * 100) / "site")
    [finding] = found(deep, "socket")
    assert finding.state == "bad"
    assert "at most 107 bytes" in finding.text
    assert "shorter path" in finding.fix
