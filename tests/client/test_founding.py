"""A site's beginning, its keys, and its end."""

import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from client.books import open_ledger
from client.diary import Diary
from client.folder import SiteFolder, alone, running, take, write_private
from client.founding import decommission, found_site, rotate
from client.keys import check_card, make_keys, signing_key, verify_key
from medgan_core.errors import InputError, IntegrityError, MedGANError, RefusedError
from medgan_core.privacy.sum_keys import sign, signed_by
from medgan_core.public_card import PublicCard
from medgan_core.record import read_json
from tests.client.sites import approve_all, make_site, proposal, trainer


@pytest.fixture
def folder(tmp_path: Path) -> SiteFolder:
    found_site(SiteFolder(tmp_path / "north"), "north")
    return SiteFolder.open(tmp_path / "north")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_private_files_are_their_owners_alone(folder: SiteFolder) -> None:
    secrets = [folder.node_key, folder.signing_key, folder.ledger, folder.ledger_key, folder.site_file]
    assert {mode(path) for path in [*secrets, folder.log, folder.heads]} == {0o600}
    assert {mode(path) for path in (folder.ledger.parent, folder.studies, folder.runs)} == {0o700}
    assert {mode(path) for path in (folder.path, folder.keys, folder.socket.parent)} == {0o711}
    assert folder.too_open() == {}
    folder.signing_key.chmod(0o644)
    assert folder.too_open() == {folder.signing_key: 0o600}


def test_the_card_is_of_the_keys_and_openssh_reads_the_nodes(folder: SiteFolder) -> None:
    card = PublicCard.read(folder.public_card)
    assert card == check_card(folder, "north")
    assert card.verify_key == verify_key(folder)
    assert signed_by(bytes.fromhex(card.verify_key), sign(signing_key(folder), b"x"), b"x")
    assert folder.node_public_key.read_text().strip() == card.node_key
    assert load_ssh_private_key(folder.node_key.read_bytes(), None).key_size == 384  # type: ignore[union-attr]
    if (tool := shutil.which("ssh-keygen")) is not None:
        done = subprocess.run([tool, "-y", "-f", folder.node_key], capture_output=True, text=True, check=True)
        assert done.stdout.split()[:2] == card.node_key.split()


def test_a_second_init_refuses_and_changes_nothing(folder: SiteFolder) -> None:
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="is a site already"):
        found_site(folder, "north")
    with pytest.raises(InputError, match="exists already"):
        make_keys(folder, "north")
    with pytest.raises(InputError, match="never overwritten"):
        write_private(folder.signing_key, b"x" * 32)
    assert before == {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["../x", "", "a b", "x" * 65])
def test_a_name_that_cannot_be_leaves_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="--name"):
        found_site(SiteFolder(tmp_path / "north"), name)
    assert not (tmp_path / "north").exists()


@pytest.mark.parametrize(
    "missing", [["site.toml"], ["site.toml", "keys/signing.key"], ["site.toml", "heads.json"]]
)
def test_an_init_that_was_cut_short_is_gone_on_with(folder: SiteFolder, missing: list[str]) -> None:
    for name in missing:
        (folder.path / name).unlink()
    found_site(folder, "north")
    check_card(folder, "north")
    open_ledger(folder, folder.config(), Diary(folder.log)).disconnect()


def test_a_folder_that_is_no_site_is_named_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no site") as caught:
        SiteFolder.open(tmp_path)
    assert str(tmp_path.parent) not in str(caught.value)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(InputError):
        found_site(SiteFolder(file / "north"), "north")


def test_another_name_or_key_than_the_cards_is_noticed(folder: SiteFolder) -> None:
    with pytest.raises(IntegrityError, match=r"public-card\.json"):
        check_card(folder, "south")
    folder.signing_key.write_bytes(b"k" * 32)
    with pytest.raises(IntegrityError, match=r"public-card\.json"):
        check_card(folder, "north")
    folder.signing_key.write_bytes(b"short")
    with pytest.raises(IntegrityError, match="damaged"):
        signing_key(folder)
    folder.node_key.write_bytes(b"no key")
    with pytest.raises(IntegrityError):
        check_card(folder, "north")


def test_one_process_at_a_time_has_the_folder(folder: SiteFolder) -> None:
    assert not running(folder)
    with alone(folder):
        assert running(folder)
        with pytest.raises(InputError, match="stop it first"):
            take(folder)
    assert not running(folder)


# Rotation


def test_new_keys_replace_the_old_ones_and_the_site_goes_on(tmp_path: Path) -> None:
    folder = make_site(tmp_path / "site")
    before = check_card(folder, "site-1")
    card = rotate(folder, even_with_runs=False)
    assert card == check_card(folder, "site-1")
    assert (card.node_key, card.verify_key) != (before.node_key, before.verify_key)
    assert folder.too_open() == {}
    with trainer(folder) as desk:
        desk.handle(proposal(folder))


def test_open_runs_keep_the_keys_they_know(tmp_path: Path) -> None:
    folder = make_site(tmp_path / "site")
    with trainer(folder) as desk:
        desk.handle(proposal(folder))
        approve_all(folder)
    with pytest.raises(RefusedError, match="run-1"):
        rotate(folder, even_with_runs=False)
    asked = proposal(folder)
    rotate(folder, even_with_runs=True)
    with trainer(folder) as desk:
        answer: object = desk.handle(asked)
        assert "sites: site-1 with its present key" in str(answer)


# The end


def test_a_decommissioned_site_has_no_keys_and_does_no_work(tmp_path: Path) -> None:
    folder = make_site(tmp_path / "site")
    with trainer(folder) as desk:
        desk.handle(proposal(folder))
        approve_all(folder)
    decommission(folder)
    assert not folder.node_key.exists()
    assert not folder.signing_key.exists()
    assert folder.ledger.exists()
    assert folder.ledger_key.exists()
    archive = read_json(folder.path / "ledger-archive.json")
    assert [entry["kind"] for entry in archive["entries"]][-1] == "close"
    for again in (lambda: SiteFolder.open(folder.path), lambda: found_site(folder, "site-1")):
        with pytest.raises(MedGANError):
            again()
