"""A ledger comes back from its backup, unless that would forget what was spent."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from client.backups import back_up, read_witness, restore
from client.books import open_ledger
from client.consent import withdraw
from client.diary import Diary
from client.folder import SiteFolder
from client.hospital import withdrawn_patients
from medgan_core.errors import InputError, LedgerError
from medgan_core.messages import Update
from medgan_core.privacy.ledger import Witness
from tests.client.sites import approve_all, make_site, proposal, request, trainer, workshop


@pytest.fixture
def folder(tmp_path: Path) -> SiteFolder:
    """A site that has answered one round."""
    made = make_site(tmp_path / "site")
    with trainer(made) as desk:
        desk.handle(proposal(made))
        approve_all(made)
        desk.handle(request(0))
    return made


def witness(folder: SiteFolder) -> Witness:
    with open_ledger(folder, folder.config()) as ledger:
        return ledger.witness()


def another_round(folder: SiteFolder) -> None:
    with trainer(folder) as desk:
        desk.handle(request(1))


def test_a_lost_ledger_comes_back_and_the_run_goes_on(folder: SiteFolder, tmp_path: Path) -> None:
    head = back_up(folder, tmp_path / "b.tar")
    assert head == witness(folder)
    assert (tmp_path / "b.tar").stat().st_mode & 0o777 == 0o600
    shutil.rmtree(folder.ledger.parent)
    folder.make()
    with pytest.raises(LedgerError):
        trainer(folder)
    assert restore(folder, tmp_path / "b.tar") == head
    assert folder.too_open() == {}
    with trainer(folder) as desk:
        assert isinstance(desk.handle(request(1)), Update)


def test_a_backup_behind_the_copy_of_the_head_is_refused_and_nothing_changes(
    folder: SiteFolder, tmp_path: Path
) -> None:
    back_up(folder, tmp_path / "b.tar")
    another_round(folder)
    before = folder.ledger.read_bytes()
    with pytest.raises(LedgerError, match="older than a copy of its head") as caught:
        restore(folder, tmp_path / "b.tar")
    assert "Bring back the newest copy" in str(caught.value)
    assert folder.ledger.read_bytes() == before
    folder.heads.unlink()  # the ledger that is here knows too
    with pytest.raises(LedgerError, match="older than a copy"):
        restore(folder, tmp_path / "b.tar")


def test_a_backup_behind_what_the_coordinator_knows_is_refused(folder: SiteFolder, tmp_path: Path) -> None:
    back_up(folder, tmp_path / "b.tar")
    known = witness(folder)
    (tmp_path / "w.json").write_text(json.dumps(asdict(replace(known, sequence=known.sequence + 1))))
    with pytest.raises(LedgerError, match="older than a copy"):
        restore(folder, tmp_path / "b.tar", read_witness(tmp_path / "w.json"))
    (tmp_path / "w.json").write_text(json.dumps({"ledger": 1}))
    with pytest.raises(InputError, match="expected JSON"):
        read_witness(tmp_path / "w.json")


def test_a_new_machine_takes_over_the_ledger(folder: SiteFolder, tmp_path: Path) -> None:
    head = back_up(folder, tmp_path / "b.tar")
    new = make_site(tmp_path / "new")
    assert restore(new, tmp_path / "b.tar") == head


def test_another_sites_ledger_is_refused(folder: SiteFolder, tmp_path: Path) -> None:
    back_up(folder, tmp_path / "b.tar")
    with pytest.raises(LedgerError, match="belongs to site"):
        restore(make_site(tmp_path / "new", name="south"), tmp_path / "b.tar")


def test_withdrawals_are_kept_by_backup_and_restore(folder: SiteFolder, tmp_path: Path) -> None:
    with workshop(folder) as (shop, _, diary):
        assert withdraw(folder, shop.ledger, diary, "Anna-001")
        back_up(folder, tmp_path / "b.tar")
        folder.withdrawn.unlink()
        assert withdraw(folder, shop.ledger, diary, "Anna-002")
        assert not withdraw(folder, shop.ledger, diary, "Anna-002")
    restore(folder, tmp_path / "b.tar")
    with workshop(folder) as (shop, _, _):
        assert withdrawn_patients(folder) == {shop.ledger.pseudonym(f"Anna-00{i}") for i in (1, 2)}
    assert folder.withdrawn.stat().st_mode & 0o777 == 0o600


def test_while_a_trainer_works_nothing_is_restored(folder: SiteFolder, tmp_path: Path) -> None:
    with trainer(folder):
        back_up(folder, tmp_path / "b.tar")
        with pytest.raises(InputError, match="stop it first"):
            restore(folder, tmp_path / "b.tar")
    with pytest.raises(InputError, match="never overwritten"):
        back_up(folder, tmp_path / "b.tar")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _other(path: Path) -> None:
    import tarfile

    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "../../evil")


@pytest.mark.parametrize("spoil", [_empty, _other, lambda path: None])
def test_what_is_no_backup_is_refused_by_name(
    folder: SiteFolder, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(tmp_path / "b.tar")
    with pytest.raises(InputError, match=r"b\.tar is no backup") as caught:
        restore(folder, tmp_path / "b.tar")
    assert str(tmp_path) not in str(caught.value)


def test_the_log_tells_of_both(folder: SiteFolder, tmp_path: Path) -> None:
    back_up(folder, tmp_path / "b.tar")
    restore(folder, tmp_path / "b.tar")
    assert [note.kind for note in Diary(folder.log).notes()][-2:] == ["backup", "restore"]
