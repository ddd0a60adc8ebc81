import json
import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from medgan_core.errors import LedgerError
from medgan_core.privacy import budget, site_key
from medgan_core.privacy.ledger import LedgerPolicy, PrivacyLedger, Witness
from tests.medgan_core.privacy.ledger_cases import (
    PATIENTS,
    charge,
    cheap,
    held,
    reopen,
    tamper,
)


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivacyLedger]:
    monkeypatch.setattr(budget, "epsilon", cheap)
    with reopen(tmp_path) as opened:
        yield opened


# The file


def test_files_are_private_and_durable(ledger: PrivacyLedger, tmp_path: Path) -> None:
    for name in ("ledger.db", "ledger.db.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger.db", "ledger.db.key"]
    connection = ledger._chain._connection
    assert connection.execute("PRAGMA synchronous").fetchone() == (3,)
    assert connection.execute("PRAGMA fullfsync").fetchone() == (1,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET kind = 'seal' WHERE sequence = 1",
        "DELETE FROM entries",
        "INSERT OR REPLACE INTO entries VALUES (1, 'genesis', '{}', '', '')",
        "INSERT INTO entries VALUES (7, 'genesis', '{}', '', '')",
    ],
)
def test_sqlite_itself_refuses_to_change_entries(ledger: PrivacyLedger, statement: str) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        ledger._chain._connection.execute(statement)
    ledger.verify()


def test_all_state_comes_back_from_the_file(ledger: PrivacyLedger, tmp_path: Path) -> None:
    account = held(ledger)
    sealed = ledger.seal(charge(ledger, account).receipt, "update")
    opened = charge(ledger, account, 1)
    with reopen(tmp_path) as again:
        assert again.witness() == ledger.witness()
        assert again.export() == ledger.export()
        assert again.enrol(PATIENTS) == account
        assert charge(again, account).receipt == sealed
        assert charge(again, account, 1).receipt == opened.receipt


@pytest.mark.parametrize("sequence", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "change",
    [
        "kind = 'close'",
        "body = replace(body, 'e', 'f')",
        "previous = 'x'",
        "hash = 'x'",
        "sequence = 99",
    ],
)
def test_a_changed_entry_is_named(ledger: PrivacyLedger, tmp_path: Path, sequence: int, change: str) -> None:
    charge(ledger, held(ledger))
    tamper(tmp_path / "ledger.db", f"UPDATE entries SET {change} WHERE sequence = {sequence}")
    with pytest.raises(LedgerError, match=rf"breaks at entry {sequence}: .* bring back"):
        reopen(tmp_path)
    with pytest.raises(LedgerError, match="breaks at entry"):
        ledger.verify()


def test_an_open_ledger_notices_missing_rows(ledger: PrivacyLedger, tmp_path: Path) -> None:
    account = held(ledger)
    charge(ledger, account)
    ledger.witness()
    tamper(tmp_path / "ledger.db", "DELETE FROM entries WHERE sequence = 4")
    with pytest.raises(LedgerError, match="breaks at entry 4"):
        charge(ledger, account, 1)


def test_an_entry_of_a_newer_version_is_named(ledger: PrivacyLedger, tmp_path: Path) -> None:
    ledger._append("dream", {})
    with pytest.raises(LedgerError, match=r"entry 2 \(dream\) cannot be read by this version"):
        reopen(tmp_path)
    for _ in range(2):  # it does not go on as if nothing had been
        with pytest.raises(LedgerError, match="entry 2"):
            ledger.enrol(PATIENTS)


def test_a_second_beginning_is_refused(ledger: PrivacyLedger, tmp_path: Path) -> None:
    ledger._append("genesis", {"ledger": "other", "site": "north", "key_fingerprint": ""})
    with pytest.raises(LedgerError, match="entry 2"):
        reopen(tmp_path)


def test_not_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("these are no entries, " * 100)
    with pytest.raises(LedgerError, match=r"^ledger\.db: .*bring back"):
        reopen(tmp_path)


def test_a_database_of_something_else(tmp_path: Path) -> None:
    tamper(tmp_path / "ledger.db", "CREATE TABLE songs(name TEXT)")
    with pytest.raises(LedgerError, match="not a usable ledger"):
        reopen(tmp_path)


def test_a_ledger_without_entries(ledger: PrivacyLedger, tmp_path: Path) -> None:
    tamper(tmp_path / "ledger.db", "DELETE FROM entries")
    with pytest.raises(LedgerError, match="lost all its entries"):
        reopen(tmp_path)


def test_a_ledger_of_another_site(ledger: PrivacyLedger, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"belongs to site 'north', not 'south'.*site\.toml"):
        PrivacyLedger.open(tmp_path / "ledger.db", "south", LedgerPolicy())


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="No such file") as caught:
        reopen(tmp_path / "missing")
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("pragma", ["PRAGMA query_only = 1", "PRAGMA max_page_count = 1"])
def test_a_charge_that_cannot_be_written_raises(ledger: PrivacyLedger, tmp_path: Path, pragma: str) -> None:
    account = held(ledger, 9)
    ledger._chain._connection.execute(pragma)

    def charge_until_full() -> None:
        for number in range(9):  # a few fit into the last page
            charge(ledger, account, number, "x" * 4000)

    with pytest.raises(LedgerError, match=r"ledger\.db: .*nothing was written.*disk") as caught:
        charge_until_full()
    assert str(tmp_path) not in str(caught.value)
    ledger.verify()
    with reopen(tmp_path) as again:
        assert again.export() == ledger.export()
        charge(again, account, 0)


def test_a_closed_ledger_says_so(ledger: PrivacyLedger) -> None:
    ledger.disconnect()
    with pytest.raises(LedgerError, match="closed"):
        ledger.witness()


# The key


def test_a_key_belongs_to_its_ledger(ledger: PrivacyLedger, tmp_path: Path) -> None:
    key = tmp_path / "ledger.db.key"
    secret = key.read_bytes()
    assert len(secret) == 32
    for content in (b"", bytes(32), secret[:-1]):
        key.write_bytes(content)
        with pytest.raises(LedgerError, match=r"ledger\.db\.key is missing or is not the key.*same backup"):
            reopen(tmp_path)
    key.unlink()
    with pytest.raises(LedgerError, match=r"ledger\.db\.key is missing"):
        reopen(tmp_path)


def test_a_lost_ledger_is_not_begun_anew(ledger: PrivacyLedger, tmp_path: Path) -> None:
    ledger.disconnect()
    for lose in (os.unlink, lambda path: os.truncate(path, 0)):
        lose(tmp_path / "ledger.db")
        with pytest.raises(LedgerError, match=r"there was a ledger: bring back"):
            reopen(tmp_path)


def test_a_cut_short_creation_is_finished(ledger: PrivacyLedger, tmp_path: Path) -> None:
    settled, proposed = tmp_path / "ledger.db.key", tmp_path / "ledger.db.key.new"
    settled.rename(proposed)
    with reopen(tmp_path) as again:
        assert again.witness() == ledger.witness()
    assert settled.exists()
    assert not proposed.exists()
    site_key._settle(proposed, settled)  # as the slower one of two processes
    assert settled.exists()


def test_patients_are_nowhere_by_name(ledger: PrivacyLedger, tmp_path: Path) -> None:
    account = held(ledger)
    charge(ledger, account)
    key = (tmp_path / "ledger.db.key").read_bytes()
    stored = (tmp_path / "ledger.db").read_bytes()
    exported = json.dumps(ledger.export())
    assert key not in stored
    assert key.hex() not in exported
    assert key.hex() not in repr(ledger._key)
    for patient in PATIENTS:
        assert patient.encode() not in stored
        assert sha256(patient.encode()).hexdigest().encode() not in stored
        assert ledger._key.pseudonym(patient).encode() in stored
        assert ledger._key.pseudonym(patient) not in exported
        assert patient not in exported


# The witness


def test_a_ledger_that_is_as_its_witness_says(ledger: PrivacyLedger, tmp_path: Path) -> None:
    account = held(ledger)
    witness = ledger.witness()
    receipt = charge(ledger, account).receipt
    for known in (witness, Witness.of_receipt(receipt), ledger.witness()):
        reopen(tmp_path, witness=known).disconnect()
    assert Witness.of_receipt(receipt) == ledger.witness()


def test_a_restored_older_copy_is_refused(ledger: PrivacyLedger, tmp_path: Path) -> None:
    account = held(ledger)
    backup = tmp_path / "backup.db"
    shutil.copy(tmp_path / "ledger.db", backup)
    witness = Witness.of_receipt(charge(ledger, account).receipt)
    ledger.disconnect()
    shutil.copy(backup, tmp_path / "ledger.db")
    with pytest.raises(
        LedgerError, match=r"older than a copy .* ends at entry 3, entry 4 is known.*Bring back"
    ):
        reopen(tmp_path, witness=witness)
    with reopen(tmp_path) as older:  # the machine that forgot goes on, and is found out all the same
        charge(older, account, 5)
    with pytest.raises(LedgerError, match=r"entry 4 is not the one known outside"):
        reopen(tmp_path, witness=witness)


def test_removed_last_rows_are_refused(ledger: PrivacyLedger, tmp_path: Path) -> None:
    charge(ledger, held(ledger))
    witness = ledger.witness()
    tamper(tmp_path / "ledger.db", "DELETE FROM entries WHERE sequence >= 3")
    with pytest.raises(LedgerError, match="ends at entry 2"):
        reopen(tmp_path, witness=witness)


def test_a_missing_empty_or_other_ledger_is_refused(ledger: PrivacyLedger, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(LedgerError, match=r"ledger\.db is missing. Bring back"):
        reopen(other, witness=ledger.witness())
    assert not list(other.iterdir())
    (other / "ledger.db").touch()
    with pytest.raises(LedgerError, match=r"ledger\.db is empty. Bring back"):
        reopen(other, witness=ledger.witness())
    reopen(other).disconnect()
    with pytest.raises(LedgerError, match="another ledger"):
        reopen(other, witness=ledger.witness())
