"""The site's own log: every request, decision and byte count that left, one JSON line each.

Append-only and hash-chained: each line carries the SHA-256 of itself with that of the line before. What is
not on disk in here has not left. No patient, no path, no key ever stands in it.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from medgan_core.errors import IntegrityError, MedGANError

NO_HEAD = "0" * 64
_MODE = 0o600


@dataclass(frozen=True)
class Note:
    """One line. `sequence` counts from 1; `time` is UTC; `facts` what happened."""

    sequence: int
    time: str
    kind: str
    facts: dict[str, Any]
    previous: str
    hash: str

    def expected_hash(self) -> str:
        """SHA-256 over everything but the hash, as canonical JSON."""
        body = [self.sequence, self.time, self.kind, self.facts, self.previous]
        return sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    def line(self) -> str:
        """As it stands in the file."""
        return json.dumps(self.__dict__, sort_keys=True) + "\n"


def utc_now() -> datetime:
    """The time that entries carry."""
    return datetime.now(UTC)


class Diary:
    """The file. Several processes may append to it; each append is on disk before it returns."""

    def __init__(self, path: Path, now: Callable[[], datetime] = utc_now) -> None:
        self.path, self.now = path, now

    def add(self, kind: str, **facts: Any) -> Note:
        """Append a line. MedGANError where it cannot be written: then what it speaks of must not happen."""
        try:
            with self._alone() as file:
                last, cut = self._last(file)
                if cut:
                    file.truncate(file.tell() - cut)
                    last = self._write(file, last, "mended", {"bytes": cut})
                return self._write(file, last, kind, facts)
        except OSError as error:
            raise MedGANError(
                f"{self.path.name} could not be written: {error.strerror}; nothing leaves that is not "
                "logged: free some space, then try again"
            ) from None

    def notes(self) -> tuple[Note, ...]:
        """All lines, each checked. IntegrityError with the number of the line at which the chain breaks."""
        if not self.path.exists():
            return ()
        lines = self.path.read_bytes().split(b"\n")
        found: list[Note] = []
        head = NO_HEAD
        for number, line in enumerate(lines[:-1], 1):  # what follows the last newline was cut short
            note = _parsed(line)
            linked = note is not None and note.sequence == number and note.previous == head
            if note is None or not linked or note.hash != note.expected_hash():
                raise IntegrityError(
                    f"{self.path.name}: the chain breaks at line {number}: it was changed or removed; keep "
                    "the file for inspection, and ask who could write to it"
                )
            found.append(note)
            head = note.hash
        return tuple(found)

    def head(self) -> tuple[int, str]:
        """Number and hash of the last line, to be kept elsewhere: the chain does not notice its end."""
        try:
            with self._alone() as file:
                last, _ = self._last(file)
        except OSError as error:
            raise MedGANError(f"{self.path.name} cannot be read: {error.strerror}") from None
        return (0, NO_HEAD) if last is None else (last.sequence, last.hash)

    def check(self, sequence: int, head: str) -> None:
        """IntegrityError where a line that was known elsewhere is gone or another."""
        notes = self.notes()
        if sequence and (len(notes) < sequence or notes[sequence - 1].hash != head):
            raise IntegrityError(
                f"{self.path.name} ends at line {len(notes)} or differs before line {sequence}, which is "
                "known from heads.json: lines were removed; keep the file for inspection"
            )

    @contextmanager
    def _alone(self) -> Iterator[IO[bytes]]:
        handle = os.open(self.path, os.O_CREAT | os.O_RDWR, _MODE)
        with os.fdopen(handle, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0, os.SEEK_END)
            yield file

    def _last(self, file: IO[bytes]) -> tuple[Note | None, int]:
        """The last whole line, and how many bytes of one that a crash cut short follow it."""
        end = file.seek(0, os.SEEK_END)
        start, tail = end, b""
        while start and tail.count(b"\n") < 2:
            size = min(start, 8192)
            start -= size
            file.seek(start)
            tail = file.read(size) + tail
        file.seek(end)
        whole, _, cut = tail.rpartition(b"\n")
        if not whole:
            return None, len(cut)
        note = _parsed(whole.rpartition(b"\n")[2])
        if note is None or note.hash != note.expected_hash():
            raise IntegrityError(
                f"{self.path.name}: its last line was changed; keep the file, and begin a new one"
            )
        return note, len(cut)

    def _write(self, file: IO[bytes], last: Note | None, kind: str, facts: dict[str, Any]) -> Note:
        sequence, previous = (last.sequence + 1, last.hash) if last else (1, NO_HEAD)
        time = f"{self.now():%Y-%m-%dT%H:%M:%SZ}"
        draft = Note(sequence, time, kind, json.loads(json.dumps(facts)), previous, "")
        note = Note(sequence, time, kind, draft.facts, previous, draft.expected_hash())
        file.seek(0, os.SEEK_END)
        file.write(note.line().encode())
        file.flush()
        os.fsync(file.fileno())
        return note


def _parsed(line: bytes) -> Note | None:
    try:
        return Note(**json.loads(line))
    except (ValueError, TypeError):
        return None
