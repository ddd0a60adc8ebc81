"""An append-only hash chain in one SQLite file: the paper on which a privacy ledger is written.

One table, `entries`; triggers refuse to change or delete a row, and every row carries the SHA-256 of itself
and of the row before it, so that whoever removes the triggers first is found out. The chain alone does not
notice that its *last* rows are gone; a copy of its head held elsewhere does (`Witness` in `ledger.py`).
"""

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from medgan_core.disk import fsync_folder
from medgan_core.errors import LedgerError

NO_HEAD = "0" * 64
"""What stands before the first entry."""

_PATIENCE = 120.0  # seconds to wait for another process: it may be computing an ε while it holds the lock
_DURABLE = ("PRAGMA journal_mode=DELETE", "PRAGMA synchronous=EXTRA", "PRAGMA fullfsync=1")
_SCHEMA = (
    """CREATE TABLE entries(
        sequence INTEGER PRIMARY KEY, kind TEXT NOT NULL, body TEXT NOT NULL, previous TEXT NOT NULL,
        hash TEXT NOT NULL)""",
    """CREATE TRIGGER entries_never_change BEFORE UPDATE ON entries
        BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END""",
    """CREATE TRIGGER entries_never_go BEFORE DELETE ON entries
        BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END""",
    # INSERT OR REPLACE deletes without asking the trigger above.
    """CREATE TRIGGER entries_follow_on BEFORE INSERT ON entries
        WHEN NEW.sequence <> (SELECT coalesce(max(sequence), 0) + 1 FROM entries)
        BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END""",
)


@dataclass(frozen=True)
class Entry:
    """One row. `sequence` counts from 1; `text` is the body as canonical JSON; hashes are hex SHA-256."""

    sequence: int
    kind: str
    text: str
    previous: str
    hash: str

    @property
    def body(self) -> dict[str, Any]:
        """The body, parsed."""
        parsed: dict[str, Any] = json.loads(self.text)
        return parsed

    @property
    def body_digest(self) -> str:
        """SHA-256 of the body: with it the chain can be followed by someone who may not read the body."""
        return sha256(self.text.encode()).hexdigest()

    def expected_hash(self) -> str:
        """SHA-256 over the lines sequence, kind, digest of the body, hash of the entry before."""
        lines = f"{self.sequence}\n{self.kind}\n{self.body_digest}\n{self.previous}"
        return sha256(lines.encode()).hexdigest()


@contextmanager
def file_errors(name: str) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into a LedgerError that names the file, not its folder."""
    try:
        yield
    except sqlite3.Error as error:
        raise LedgerError(f"{name}: {error}; {_way_forward(error)}") from error
    except OSError as error:
        # Not chained: the text of an OSError holds the absolute path.
        raise LedgerError(f"{name}: {error.strerror}; check the folder and who may write to it") from None


def _way_forward(error: sqlite3.Error) -> str:
    if isinstance(error, sqlite3.OperationalError) and "no such table" not in str(error):
        return "nothing was written: check disk space, permissions and other processes, then try again"
    return "this is not a usable ledger: bring back the newest copy of it"


class Chain:
    """The file. Holds a connection and no other state; the caller remembers how far it has read."""

    def __init__(self, path: Path) -> None:
        """Connect; the file is created with mode 0600 where it is missing. LedgerError where it cannot be."""
        self.name = path.name
        with file_errors(self.name):
            _create_private(path)
            self._connection = sqlite3.connect(
                path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
            try:
                for pragma in _DURABLE:
                    self._connection.execute(pragma).fetchall()
            except sqlite3.Error:
                self._connection.close()
                raise

    def disconnect(self) -> None:
        """Close the connection."""
        self._connection.close()

    def blank(self) -> bool:
        """Whether the file is an empty database."""
        with file_errors(self.name):
            return bool(self._connection.execute("SELECT count(*) = 0 FROM sqlite_master").fetchone()[0])

    def lay_out(self) -> None:
        """Create table and triggers, inside of a transaction."""
        with file_errors(self.name):
            for statement in _SCHEMA:
                self._connection.execute(statement)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Alone with the file; what was appended is on disk after the block, or not at all."""
        with file_errors(self.name):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def append(self, sequence: int, head: str, kind: str, body: Mapping[str, Any]) -> Entry:
        """Write one entry behind entry `sequence` with hash `head`, inside of a transaction."""
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
        draft = Entry(sequence + 1, kind, text, head, "")
        entry = Entry(draft.sequence, kind, text, head, draft.expected_hash())
        row = (entry.sequence, entry.kind, entry.text, entry.previous, entry.hash)
        with file_errors(self.name):
            self._connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", row)
        return entry

    def after(self, sequence: int, head: str) -> Iterator[Entry]:
        """The entries behind entry `sequence`, each checked. LedgerError with the number where it breaks."""
        with file_errors(self.name):
            query = "SELECT sequence, kind, body, previous, hash FROM entries WHERE sequence >= ? ORDER BY 1"
            rows = self._connection.execute(query, (sequence,)).fetchall()
        if sequence:
            if not rows or (rows[0][0], rows[0][4]) != (sequence, head):
                raise self._broken(sequence)
            rows = rows[1:]
        for number, row in enumerate(rows, sequence + 1):
            entry = Entry(row[0], str(row[1]), str(row[2]), row[3], row[4])
            linked = entry.sequence == number and entry.previous == head
            if not linked or entry.hash != entry.expected_hash():
                raise self._broken(number)
            yield entry
            head = entry.hash

    def hash_at(self, sequence: int) -> str | None:
        """The hash of one entry, None where there is no such entry."""
        with file_errors(self.name):
            query = "SELECT hash FROM entries WHERE sequence = ?"
            row = self._connection.execute(query, (sequence,)).fetchone()
        return None if row is None else str(row[0])

    def _broken(self, sequence: int) -> LedgerError:
        return LedgerError(
            f"{self.name}: the chain breaks at entry {sequence}: it was changed, removed or damaged; keep "
            "this file for inspection and bring back the newest unbroken copy"
        )


def _create_private(path: Path) -> None:
    """An empty file with mode 0600, on disk together with its name; nothing where there is a file already."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        fsync_folder(path.parent)
