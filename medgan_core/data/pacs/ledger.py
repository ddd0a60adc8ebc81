"""What was pulled already: keyed hashes of objects, what became of them, and nothing else.

A line is written once its object is with the consumer for good, so a pull that was killed goes on where it
was; after a power failure the last lines may be missing, and their objects come once more. A pull has a
number; what the archive no longer has, or the cohort no longer asks for, keeps an older one.
"""

import os
import sqlite3
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from medgan_core.errors import InputError, IntegrityError

KEPT = ""
"""The reason of an object that was not refused."""
_SETTINGS = """
PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
"""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    key TEXT PRIMARY KEY, series TEXT NOT NULL, pixels TEXT NOT NULL, reason TEXT NOT NULL,
    terms TEXT NOT NULL, pull INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS series (key TEXT PRIMARY KEY, listing TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pulls (number INTEGER PRIMARY KEY);
"""


@dataclass(frozen=True)
class Entry:
    """An object: digest of its pixels, why it was refused (`KEPT` where not), and a digest of the terms."""

    pixels: str
    reason: str
    terms: str


class PullLedger:
    """An SQLite file for one process at a time; threads share it.

    InputError where another process has it, or it cannot be opened; IntegrityError where it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._name = path.name
        try:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            self._base = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error):
            raise InputError(f"{path.name} cannot be opened: check disk and rights of its folder") from None
        try:
            self._base.executescript(_SETTINGS + _SCHEMA)
            self._base.execute("INSERT INTO pulls DEFAULT VALUES")
        except sqlite3.Error as error:
            self._base.close()
            raise self._mended(error) from None
        self.number = int(self._base.execute("SELECT max(number) FROM pulls").fetchone()[0])

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def find(self, key: str) -> Entry | None:
        """What is known of an object."""
        rows = self._run("SELECT pixels, reason, terms FROM objects WHERE key = ?", key)
        return Entry(*rows[0]) if rows else None

    def record(self, key: str, series: str, entry: Entry) -> None:
        """What became of an object in this pull."""
        row = (key, series, entry.pixels, entry.reason, entry.terms, self.number)
        self._run("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?)", *row)

    def seen(self, key: str) -> None:
        """An object is still there, unchanged."""
        self._run("UPDATE objects SET pull = ? WHERE key = ?", self.number, key)

    def finish(self, series: str, listing: str) -> None:
        """Every object of a series is recorded; `listing` is a digest of which they are, and of the terms."""
        self._run("INSERT OR REPLACE INTO series VALUES (?, ?)", series, listing)

    def finished(self, series: str, listing: str) -> bool:
        """Whether a series was finished with this listing; then its objects count as seen."""
        rows = self._run("SELECT listing FROM series WHERE key = ?", series)
        if not rows or rows[0][0] != listing:
            return False
        self._run("UPDATE objects SET pull = ? WHERE series = ?", self.number, series)
        return True

    def clear(self) -> None:
        """Forget what was pulled."""
        self._run("DELETE FROM series")
        self._run("DELETE FROM objects")

    def kept(self) -> list[str]:
        """The objects of this pull that were not refused, in the order of their keys."""
        rows = self._run("SELECT key FROM objects WHERE reason = '' AND pull = ? ORDER BY key", self.number)
        return [row[0] for row in rows]

    def refused(self) -> Counter[str]:
        """How many objects of this pull were refused, by reason."""
        rows = self._run(
            "SELECT reason, count(*) FROM objects WHERE reason != '' AND pull = ? GROUP BY reason",
            self.number,
        )
        return Counter({row[0]: int(row[1]) for row in rows})

    def _run(self, statement: str, *values: object) -> list[tuple[str, ...]]:
        try:
            with self._lock:
                return self._base.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._mended(error) from None

    def _mended(self, error: sqlite3.Error) -> Exception:
        if "locked" in str(error):
            return InputError("another pull works in this folder: wait for it, or stop it first")
        if isinstance(error, sqlite3.OperationalError):
            return IntegrityError(f"{self._name} could not be written: check the disk, then pull again")
        return IntegrityError(f"{self._name} is damaged: delete it, and everything is pulled anew")
