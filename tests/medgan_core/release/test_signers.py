"""Every tampering of a signed release is found, and names what was touched."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from safetensors import numpy as safetensors

from medgan_core.errors import ReleaseError
from medgan_core.privacy.sum_keys import new_secret, verify_key_of
from medgan_core.record import write_json
from medgan_core.release.bundle import Release
from medgan_core.release.card_text import markdown
from medgan_core.release.files import FILES, SIGNATURE, write_manifest
from medgan_core.release.monai_configs import configs
from medgan_core.release.ports import ports
from medgan_core.release.signature import sign_manifest
from medgan_core.release.spending import release_epsilon, spending
from medgan_core.release.trust import Trust, TrustedKey
from medgan_core.release.verify import verify_release
from tests.medgan_core.release.making import Parties, build, rewrite


def _refused(folder: Path, trust: Trust | None) -> str:
    with pytest.raises(ReleaseError) as caught:
        verify_release(folder, trust)
    return str(caught.value)


def test_a_signed_release_passes_with_trusted_keys(signed: Path, parties: Parties) -> None:
    verified = verify_release(signed, parties.trust)
    assert verified.signers == "2 sites and the coordinator clinic"
    text = "\n".join(verified.lines)
    assert "8 receipts are signed with trusted keys of 2 sites" in text
    assert "manifest.sig: signed by the coordinator clinic, SHA256:" in text
    assert "integrity only" not in text


def test_without_keys_it_is_integrity_only(signed: Path, folder: Path) -> None:
    for path in (signed, folder):
        verified = verify_release(path)
        assert verified.signers == ""
        assert sum("integrity only" in line for line in verified.lines) == 2


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_named_also_when_the_manifest_is_made_anew(
    signed: Path, parties: Parties, name: str
) -> None:
    (signed / name).write_bytes((signed / name).read_bytes().replace(b"a", b"b", 1))
    assert _refused(signed, parties.trust).startswith(name)
    write_manifest(signed)
    told = _refused(signed, parties.trust)
    assert name.split("/")[-1].split(".")[0] in told


def _forge_weights(folder: Path) -> None:
    """Other weights, with every hash in the release made anew: card, facts, words, manifest."""
    path = folder / "generator.safetensors"
    arrays = {name: array.copy() for name, array in safetensors.load(path.read_bytes()).items()}
    arrays["last.bias"] += 0.5
    path.write_bytes(safetensors.save(arrays))
    digest = sha256(path.read_bytes()).hexdigest()
    rewrite(folder, "generator.json", lambda body: body | {"sha256": digest})
    rewrite(folder, "card.json", lambda body: body | {"generator_sha256": digest})
    _words_anew(folder)


def _words_anew(folder: Path) -> None:
    write_manifest(folder)
    release = Release.open(folder)
    (folder / "card.md").write_text(markdown(release.card))
    for name, body in configs(release.card, ports(release.facts.make_task())).items():
        write_json(folder / "configs" / name, body)
    write_manifest(folder)


def _soften_card(folder: Path) -> None:
    rewrite(folder, "card.json", lambda body: body | {"forbidden_use": ["Nothing is forbidden."]})
    _words_anew(folder)


def _drop_receipt(folder: Path) -> None:
    """One receipt fewer where a quorum of one is enough, and a card that fits what is left."""
    study = folder / "study.toml"
    study.write_text(study.read_text().replace("quorum = 0", "quorum = 1"))
    write_manifest(folder)
    rewrite(
        folder, "receipts.json", lambda body: [r for r in body if (r["site"], r["round"]) != ("south", 1)]
    )
    receipts, plan = Release.open(folder).receipts, Release.open(folder).card.plan
    sites = [site.model_dump(mode="json") for site in spending(receipts, plan)]
    spent = {"sites": sites, "epsilon": release_epsilon(receipts, plan)}
    rewrite(folder, "card.json", lambda body: body | spent)
    _words_anew(folder)


@pytest.mark.parametrize(
    ("forge", "names"),
    [
        (_forge_weights, ["card.json", "card.md", "generator.json", "generator.safetensors"]),
        (_soften_card, ["card.json", "card.md", "configs/metadata.json"]),
        (_drop_receipt, ["card.json", "card.md", "receipts.json", "study.toml"]),
    ],
)
def test_a_forger_who_makes_every_hash_anew_has_no_key(
    signed: Path, parties: Parties, forge: Callable[[Path], None], names: list[str]
) -> None:
    forge(signed)
    for trust in (parties.trust, None):  # the signature that was left behind tells it without keys too
        assert _refused(signed, trust).startswith(f"{', '.join(names)}: not what the coordinator signed")
    (signed / SIGNATURE).unlink()
    assert verify_release(signed).signers == ""  # whole, but nobody's
    assert _refused(signed, parties.trust).startswith("manifest.sig is missing")
    sign_manifest(signed, new_secret())
    assert _refused(signed, parties.trust).startswith("manifest.sig: signed by an unknown key, SHA256:")


def test_a_manifest_alone_that_was_made_anew_is_named(signed: Path, parties: Parties) -> None:
    manifest = json.loads((signed / "manifest.json").read_text()) | {"created": "2020-01-01T00:00:00+00:00"}
    (signed / "manifest.json").write_text(json.dumps(manifest))
    assert _refused(signed, parties.trust).startswith("manifest.json: not what the coordinator signed")


def _edit_first(**changes: Any) -> Callable[[Any], Any]:
    return lambda body: [body[0] | changes, *body[1:]]


@pytest.mark.parametrize(
    "changes", [{"spent": 0.01}, {"head": "00" * 32}, {"signature": ""}, {"signature": "no hex"}]
)
def test_one_receipt_that_was_changed_is_named(
    signed: Path, parties: Parties, changes: dict[str, Any]
) -> None:
    rewrite(signed, "receipts.json", _edit_first(**changes))
    sign_manifest(signed, parties.coordinator)  # a coordinator alone cannot do it either
    told = _refused(signed, parties.trust)
    assert told.startswith(
        "receipts.json: the receipt of north for round 0 is not signed with a key of the site"
    )


def test_signatures_swapped_between_sites_are_found(signed: Path, parties: Parties) -> None:
    def swap(body: Any) -> Any:
        first, second = body[0]["signature"], body[1]["signature"]
        return [body[0] | {"signature": second}, body[1] | {"signature": first}, *body[2:]]

    rewrite(signed, "receipts.json", swap)
    sign_manifest(signed, parties.coordinator)
    assert "the receipt of north for round 0 is not signed" in _refused(signed, parties.trust)
    assert "the receipt of north for round 0 is not signed" in _refused(signed, None)


def test_receipts_signed_by_sites_that_a_forger_made_up(tmp_path: Path, parties: Parties) -> None:
    forger = Parties(coordinator=parties.coordinator)
    forger.build(tmp_path / "forged")
    assert verify_release(tmp_path / "forged").signers == ""
    told = _refused(tmp_path / "forged", parties.trust)
    assert told.startswith("card.json: its key of site north is not one that you trust")
    build(tmp_path / "bare", edit=forger.signed, signing_key=parties.coordinator)
    assert "the receipt of north for round 0" in _refused(tmp_path / "bare", parties.trust)


def test_every_site_must_be_known(signed: Path, parties: Parties) -> None:
    known = tuple(key for key in parties.trust.keys if key.name != "south")
    assert "you trust no key of site south" in _refused(signed, Trust(known))


def test_a_site_s_key_signs_no_manifest(signed: Path, parties: Parties) -> None:
    sign_manifest(signed, parties.sites["north"])
    assert "signed by an unknown key" in _refused(signed, parties.trust)
    keys = (*parties.trust.keys, TrustedKey("coordinator", "old", verify_key_of(new_secret()).hex()))
    assert "signed by an unknown key" in _refused(signed, Trust(keys))


def test_a_site_that_changed_its_key_is_known_by_both(signed: Path, parties: Parties) -> None:
    newer = TrustedKey("site", "north", verify_key_of(new_secret()).hex())
    assert verify_release(signed, Trust((newer, *parties.trust.keys))).signers
