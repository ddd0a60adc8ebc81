import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from medgan_core.release.trust import keys_text
from tests.medgan_core.release.making import Parties, build, rewrite
from tests.medgan_core.test_cli import Medgan, medgan

__all__ = ["medgan"]


@pytest.fixture
def keys(tmp_path: Path, parties: Parties) -> Path:
    coordinator, *_ = parties.trust.keys
    (tmp_path / "trust.keys").write_text(keys_text(parties.public, coordinator))
    return tmp_path / "trust.keys"


@pytest.fixture
def secret(tmp_path: Path, parties: Parties) -> Path:
    (tmp_path / "release.key").write_bytes(parties.coordinator)
    return tmp_path / "release.key"


def test_verify_with_keys_says_who_signed(medgan: Medgan, signed: Path, keys: Path) -> None:
    said = medgan("verify", signed, "--trust", keys)
    assert (said.code, said.err) == (0, "")
    last = said.out.splitlines()[-1]
    assert last.startswith("verified: epsilon ")
    assert last.endswith("signed by 2 sites and the coordinator clinic, whom you trust")


def test_verify_without_keys_is_integrity_only(medgan: Medgan, signed: Path) -> None:
    said = medgan("verify", signed)
    assert said.code == 0
    assert said.out.splitlines()[-1].startswith("integrity only: epsilon ")
    assert said.out.splitlines()[-1].endswith("give their public keys with --trust")


def test_verify_with_keys_of_others_fails(medgan: Medgan, signed: Path, tmp_path: Path) -> None:
    stranger = Parties()
    (tmp_path / "other.keys").write_text(keys_text(stranger.public, stranger.trust.keys[0]))
    said = medgan("verify", signed, "--trust", tmp_path / "other.keys")
    assert said.code == 1
    assert said.err.startswith("error: card.json: its key of site north is not one that you trust")
    assert medgan("verify", signed, "--trust", tmp_path / "nowhere").code == 2


def test_a_recalled_release_ends_with_one(
    medgan: Medgan, signed: Path, keys: Path, secret: Path, tmp_path: Path
) -> None:
    listed = tmp_path / "recalls.json"
    words = ("recall", signed, "--reason", "a patient withdrew", "--key", secret, "--recalls", listed)
    said = medgan(*words)
    assert said.code == 0
    assert "recalled: tiny-run" in said.out
    said = medgan("verify", signed, "--trust", keys, "--recalls", listed)
    assert said.code == 1
    assert "a patient withdrew" in said.err
    assert medgan(*words).code == 2
    assert medgan("verify", signed, "--recalls", tmp_path / "none.json").code == 2


def test_an_end_fails_warns_and_is_said_while_drawing(medgan: Medgan, tmp_path: Path) -> None:
    folder = build(tmp_path / "release", {"release.valid_days": 20}).folder
    said = medgan("verify", folder)
    assert said.code == 0
    assert said.err.startswith("warning: card.json: the release is to be used until ")
    later = datetime.now(UTC) + timedelta(days=21)
    assert medgan("verify", folder, "--at", f"{later:%Y-%m-%d}").code == 1
    assert medgan("verify", folder, "--at", "soon").code == 2
    assert "EXPIRED" not in medgan("generate", folder, "--n", 1, "--out", tmp_path / "a.npz").err
    created = {"created": "2020-01-01T00:00:00+00:00", "expires": "2020-01-21T00:00:00+00:00"}
    rewrite(folder, "card.json", lambda body: body | created)
    assert "EXPIRED" in medgan("generate", folder, "--n", 1, "--out", tmp_path / "a.npz").err


def test_diff_as_table_and_json(medgan: Medgan, folder: Path, signed: Path, tmp_path: Path) -> None:
    assert medgan("diff", folder, folder).out == "no difference\n"
    other = build(tmp_path / "other", {"privacy.noise_multiplier": 3.0}).folder
    table = medgan("diff", folder, other)
    assert table.code == 0
    assert "privacy.noise_multiplier" in table.out
    told = json.loads(medgan("diff", folder, other, "--json").out)
    assert {"part": "study", "name": "privacy.noise_multiplier", "first": 2.0, "second": 3.0} in told
    assert medgan("diff", folder, tmp_path / "nowhere").code == 2


def test_export_to_both(medgan: Medgan, public_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the package onnx is not installed")
    said = medgan("export", public_folder, tmp_path / "g.onnx", "--to", "onnx")
    assert said.code == 0
    assert "NOT PRIVATE" in said.err
    assert (tmp_path / "g.onnx").stat().st_size > 1000
    assert medgan("export", public_folder, tmp_path / "b", "--to", "monai").code == 0
    assert (tmp_path / "b" / "models" / "model.onnx").is_file()
    assert medgan("export", public_folder, tmp_path / "b", "--to", "monai").code == 2
    assert medgan("export", public_folder, tmp_path / "g.onnx" / "below", "--to", "onnx").code == 2


def test_export_without_onnx_says_what_to_install(
    medgan: Medgan, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    said = medgan("export", folder, tmp_path / "g.onnx", "--to", "onnx")
    assert said.code == 2
    assert "medgan-federated[export]" in said.err
    assert not (tmp_path / "g.onnx").exists()
