import json
from pathlib import Path

import pytest

from medgan_core.data.dicom.text import can_look
from medgan_core.release.anonymize.rules import explain
from tests.medgan_core.release.anonymize.test_cohort import planted_folder
from tests.medgan_core.test_cli import Medgan, _built, _built_public, folder, medgan, public_folder

__all__ = ["_built", "_built_public", "folder", "medgan", "public_folder"]


def test_explain_prints_every_rule(medgan: Medgan) -> None:
    said = medgan("anonymize", "--explain")
    assert said.code == 0
    assert len(said.out.splitlines()) == len(explain())
    assert all(rule.attributes in said.out and rule.done in said.out for rule in explain())


def test_a_key_is_made_and_not_made_twice(medgan: Medgan, tmp_path: Path) -> None:
    said = medgan("anonymize", "--new-key", tmp_path / "site.key")
    assert said.code == 0
    assert (tmp_path / "site.key").read_text().strip() not in said.out
    assert str(tmp_path) not in said.out
    assert medgan("anonymize", "--new-key", tmp_path / "site.key").code == 2


def test_what_is_missing_is_named(medgan: Medgan, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "key").write_text("00" * 32)
    (tmp_path / "key").chmod(0o644)
    ends: list[tuple[list[object], int, str]] = [
        ([], 2, "expected IN and OUT"),
        ([tmp_path / "in"], 2, "expected IN and OUT"),
        ([tmp_path / "in", tmp_path / "out"], 2, "expected --release"),
        ([tmp_path / "in", tmp_path / "out", "--pixels", "keep"], 2, "--new-key"),
        ([tmp_path / "in", tmp_path / "out", "--pixels", "keep", "--release", folder], 2, "takes no"),
        ([tmp_path / "in", tmp_path / "out", "--pixels", "keep", "--key", tmp_path / "key"], 3, "mode 644"),
        ([tmp_path / "in", tmp_path / "out", "--release", folder, "--structure", "mirror"], 2, "--new-key"),
        ([tmp_path / "none", tmp_path / "out", "--release", folder], 2, "IN none: expected a folder"),
        ([tmp_path / "in", tmp_path / "in" / "out", "--release", folder], 2, "OUT lies in IN"),
        ([tmp_path / "in", tmp_path / "out", "--release", folder, "--patients", 0], 2, "--patients"),
    ]
    for arguments, code, says in ends:
        said = medgan("anonymize", *arguments)
        assert (said.code, says in said.err) == (code, True), said.err
    assert not (tmp_path / "out").exists()


def test_a_release_without_privacy_is_refused(medgan: Medgan, public_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    said = medgan("anonymize", tmp_path / "in", tmp_path / "out", "--release", public_folder)
    assert said.code == 3
    assert "NOT PRIVATE" in said.err


def test_a_drawn_cohort_and_a_search(medgan: Medgan, folder: Path, tmp_path: Path) -> None:
    planted = planted_folder(tmp_path / "in", ("CT_small.dcm",))
    arguments = [tmp_path / "in", tmp_path / "out", "--release", folder, "--patients", 2]
    said = medgan("anonymize", *arguments)
    assert said.code == 0
    assert "Nothing of IN" in said.out
    assert "IN holds CT too" in said.err
    assert "images of 2 patients written" in said.out
    assert medgan("anonymize", *arguments).code == 0
    assert json.loads((tmp_path / "out" / "anonymize.json").read_text())["patients"] == 2
    clean = medgan("leak-check", tmp_path / "out", "--against", tmp_path / "in")
    assert clean.code == 0
    assert "nothing found; this is no proof" in clean.out
    (tmp_path / "out" / "run.log").write_text(f"read {planted[0].canaries[0]}")
    leaking = medgan("leak-check", tmp_path / "out", "--against", tmp_path / "in")
    assert leaking.code == 1
    assert "LEAK name" in leaking.out
    everything = "".join((said.out, said.err, leaking.out, leaking.err))
    assert [canary for canary in planted[0].canaries if canary in everything] == []
    assert str(tmp_path) not in everything
    refused = medgan("anonymize", *arguments)
    assert refused.code == 2
    assert "no earlier outcome" in refused.err


@pytest.mark.skipif(not can_look(), reason="Tesseract is not installed")
def test_pixels_kept(medgan: Medgan, tmp_path: Path) -> None:
    planted = planted_folder(tmp_path / "in", ("CT_small.dcm", "reportsi.dcm"))
    medgan("anonymize", "--new-key", tmp_path / "site.key")
    said = medgan(
        "anonymize", tmp_path / "in", tmp_path / "out", "--pixels", "keep", "--key", tmp_path / "site.key"
    )
    assert said.code == 0
    assert "REAL PIXELS" in said.out
    assert "1 refused: not an image" in said.out
    arguments = ("leak-check", tmp_path / "out", "--against", tmp_path / "in")
    assert "1 the same" in medgan(*arguments).out
    assert medgan(*arguments, "--pixels", "keep").code == 0
    assert planted[0].canaries[0] not in said.out
