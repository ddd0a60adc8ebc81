import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import numpy as safetensors

from medgan_core.errors import InputError, ReleaseError
from medgan_core.messages import Receipt
from medgan_core.privacy.sum_keys import new_secret, sign, verify_key_of
from medgan_core.release.files import FILES, MANIFEST, write_manifest
from medgan_core.release.verify import verify_release
from tests.medgan_core.release.making import build, rewrite

Edit = Callable[[Any], Any]


def test_an_untouched_release_passes(folder: Path) -> None:
    verification = verify_release(folder)
    assert verification.privacy == "dp"
    assert 0 < verification.epsilon <= 10
    assert verification.delta == 1e-5
    text = "\n".join(verification.lines)
    for name in (MANIFEST, *FILES):
        assert name in text
    assert "8 receipts of 2 sites" in text
    assert "no signatures: integrity only" in text
    assert "the gate kept the refined generator" in text


def test_a_release_without_privacy_passes_as_what_it_is(public_folder: Path) -> None:
    verification = verify_release(public_folder)
    assert verification.privacy == "NOT PRIVATE"
    assert math.isinf(verification.epsilon)


def test_with_keys_on_the_card_every_receipt_must_be_signed(tmp_path: Path) -> None:
    keys = {site: new_secret() for site in ("north", "south")}

    def signed(receipts: list[Receipt]) -> list[Receipt]:
        return [replace(r, signature=sign(keys[r.site], r.message()).hex()) for r in receipts]

    public = {site: verify_key_of(key).hex() for site, key in keys.items()}
    build(tmp_path / "good", edit=signed, verify_keys=public)
    lines = verify_release(tmp_path / "good").lines
    assert any("8 receipts are signed with the keys of 2 sites on the card" in line for line in lines)
    swapped = dict(zip(public, reversed(public.values()), strict=True))
    build(tmp_path / "bad", edit=signed, verify_keys=swapped)
    with pytest.raises(ReleaseError, match="the receipt of north for round 0 is not signed with the site's"):
        verify_release(tmp_path / "bad")
    build(tmp_path / "none", verify_keys=public)
    with pytest.raises(ReleaseError, match="is not signed with the site's key"):
        verify_release(tmp_path / "none")


def test_signatures_are_counted_but_not_believed(folder: Path) -> None:
    rewrite(folder, "receipts.json", lambda body: [body[0] | {"signature": "s"}, *body[1:]])
    assert any("1 of 8 receipts carry a signature" in line for line in verify_release(folder).lines)


@pytest.mark.parametrize("name", [MANIFEST, *FILES])
def test_each_file_is_named_when_it_is_gone_or_changed(folder: Path, name: str) -> None:
    body = (folder / name).read_bytes()
    (folder / name).write_bytes(b"{" + body)
    with pytest.raises(ReleaseError, match=f"^{name}"):
        verify_release(folder)
    (folder / name).unlink()
    with pytest.raises(ReleaseError, match=f"^{name} is missing"):
        verify_release(folder)


def test_an_extra_file_is_named(folder: Path) -> None:
    (folder / "patients.csv").write_text("x")
    with pytest.raises(ReleaseError, match=r"^patients.csv is extra"):
        verify_release(folder)


@pytest.mark.parametrize("name", FILES)
def test_what_cannot_be_read_is_named_though_its_hash_agrees(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"\xff{")
    write_manifest(folder)
    with pytest.raises(ReleaseError, match=f"^{name}"):
        verify_release(folder)


@pytest.mark.parametrize(
    "body",
    ["[]", "{}", '{"format": 2, "files": {}}', '{"format": 1, "files": {}}', '{"format": 1, "files": []}'],
)
def test_a_manifest_that_says_too_little(folder: Path, body: str) -> None:
    (folder / MANIFEST).write_text(body)
    with pytest.raises(ReleaseError, match=f"^{MANIFEST}"):
        verify_release(folder)


def test_a_manifest_may_not_list_other_files(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"]["../secret"] = {"sha256": "", "bytes": 0}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ReleaseError, match=r"^manifest.json lists ../secret"):
        verify_release(folder)


def _set(name: str, value: object) -> Edit:
    return lambda body: body | {name: value}


def _plan(**changes: object) -> Edit:
    return lambda body: body | {"plan": body["plan"] | changes}


def _site(**changes: object) -> Edit:
    return lambda body: body | {"sites": [body["sites"][0] | changes, *body["sites"][1:]]}


def _gate(**changes: object) -> Edit:
    return lambda body: body | {"metrics": body["metrics"] | {"gate": body["metrics"]["gate"] | changes}}


def _each(**changes: object) -> Edit:
    return lambda body: [receipt | changes for receipt in body]


@pytest.mark.parametrize(
    ("name", "edit", "says"),
    [
        ("card.json", _set("epsilon", 0.1), "card.json: epsilon is 0.1"),
        ("card.json", _set("epsilon", "inf"), "card.json: epsilon is inf"),
        ("card.json", _set("epsilon", "nan"), "card.json: epsilon is nan"),
        ("card.json", _set("privacy", "NOT PRIVATE"), "card.json: privacy is 'NOT PRIVATE'"),
        ("card.json", _set("study", "other"), "card.json: study is 'other'"),
        ("card.json", _set("run", "other"), "card.json: run is 'other'"),
        ("card.json", _set("delta", 1e-7), "card.json: delta"),
        ("card.json", _set("unit", "image"), "card.json: unit of the plan"),
        ("card.json", _plan(clip_norm=2.0), "card.json: clip_norm of the plan is 2.0"),
        ("card.json", _plan(noise_multiplier=20.0), "receipts.json: the receipt of site north for round 1"),
        ("card.json", _plan(gate=False), "receipts.json: the receipt of site north for round 2 is for gate"),
        (
            "card.json",
            _plan(gate_noise_multiplier=9.0),
            "receipts.json: the receipt of site north for round 2",
        ),
        ("card.json", _gate(kept="one_shot"), "card.json: the gate kept 'one_shot', by its gain it is 'ref"),
        ("card.json", _gate(gain="much"), "card.json: metrics do not tell the gain"),
        ("card.json", _set("metrics", {}), "card.json: metrics do not tell the gain"),
        ("card.json", _plan(rounds=0), "receipts.json: the receipt of site north for round 1"),
        ("card.json", _site(epsilon_training=0.1), "card.json: epsilon_training of north is 0.1"),
        ("card.json", _site(account_epsilon_training=0.1), "card.json: account_epsilon_training of north"),
        ("card.json", _site(site="east"), "card.json: its sites"),
        ("card.json", _set("surprise", 1), "card.json: surprise: Extra inputs"),
        ("card.json", _set("intended_use", ["diagnosis"]), "card.md: its words"),
        ("card.json", _set("generator_sha256", "00"), "generator.json: sha256"),
        ("receipts.json", _each(spent=0.01), "card.json: account_epsilon_training"),
        ("receipts.json", _each(round="zero"), "receipts.json cannot be read"),
        ("receipts.json", _each(phase="other"), "receipts.json cannot be read"),
        ("receipts.json", _each(surprise=1), "receipts.json cannot be read"),
        ("receipts.json", lambda body: {"none": 1}, "receipts.json cannot be read"),
        ("receipts.json", lambda body: [7], "receipts.json cannot be read"),
        ("generator.json", _set("classes", ["a", "b"]), "generator.json: classes"),
        ("generator.json", _set("latent_size", 5), "generator.json: latent_size"),
        ("generator.json", _set("image_shape", [1, 32, 32]), "generator.json: image_shape"),
        ("generator.json", _set("image_shape", [1, 10**9, 28]), "generator.json: image_shape"),
        ("generator.json", _set("task", "other"), "generator.json: task"),
        ("generator.json", _set("sha256", "00"), "generator.json: sha256"),
        (
            "generator.json",
            _set("training", {"latent_size": 4, "generator_width": 5}),
            "generator.safetensors: tensor",
        ),
    ],
)
def test_a_forger_who_makes_the_manifest_anew_is_found(
    folder: Path, name: str, edit: Edit, says: str
) -> None:
    rewrite(folder, name, edit)
    with pytest.raises(ReleaseError) as caught:
        verify_release(folder)
    assert str(caught.value).startswith(says)


def test_private_on_the_card_and_infinite_in_the_receipts(public_folder: Path) -> None:
    rewrite(public_folder, "card.json", _set("privacy", "dp"))
    with pytest.raises(ReleaseError, match=r"^card.json: privacy is 'dp'"):
        verify_release(public_folder)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("discriminator_steps = 3", "discriminator_steps = 4", r"card.json: steps of the plan is 3"),
        ("epsilon = 10.0", "epsilon = 5.0", r"card.json: evaluation_noise_multiplier of the plan"),
        ("epsilon = 10.0", "epsilon = 1e-9", r"study.toml: privacy.epsilon = 1e-09"),
        ("epsilon = 10.0", "epsilon = -1", r"study.toml cannot be read"),
        ('name = "tiny"', 'name = "other"', r"card.json: study is 'tiny'"),
    ],
)
def test_a_changed_study_is_found(folder: Path, old: str, new: str, says: str) -> None:
    path = folder / "study.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    write_manifest(folder)
    with pytest.raises(ReleaseError, match=f"^{says}"):
        verify_release(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(folder: Path, value: float) -> None:
    path = folder / "generator.safetensors"
    arrays = safetensors.load(path.read_bytes())
    arrays["last.bias"] = np.array([value], np.float32)
    path.write_bytes(safetensors.save(arrays))
    write_manifest(folder)
    with pytest.raises(ReleaseError, match=r"^generator.safetensors: its SHA-256"):
        verify_release(folder)
    digest = json.loads((folder / MANIFEST).read_text())["files"]["generator.safetensors"]["sha256"]
    rewrite(folder, "generator.json", _set("sha256", digest))
    rewrite(folder, "card.json", _set("generator_sha256", digest))
    text = (folder / "card.md").read_text()
    (folder / "card.md").write_text(text)
    with pytest.raises(ReleaseError, match=r"^generator.safetensors: tensor last.bias is not finite"):
        verify_release(folder)


def test_an_account_that_spent_less_than_the_run(tmp_path: Path) -> None:
    made = build(tmp_path / "r", edit=lambda receipts: [replace(r, spent=0.5) for r in receipts])
    with pytest.raises(ReleaseError, match=r"^receipts.json: the training account of north has spent 0.5"):
        verify_release(made.folder)


def test_another_version_wrote_other_words(folder: Path) -> None:
    def older(card: dict[str, Any]) -> None:
        card["environment"]["packages"]["medgan-federated"] = "0.0.1"

    rewrite(folder, "card.json", older)
    assert any("written by another version" in line for line in verify_release(folder).lines)


def test_what_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        verify_release(tmp_path)
