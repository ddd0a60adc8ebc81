"""What has to be on disk, together with its name."""

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def fsync_folder(folder: Path) -> None:
    """Bring the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def draft_of(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """A new hidden file beside `path` that no other writer has; what is left of it goes with the block.

    Its writer holds a lock on it until then, so drafts of writers that were killed are told from those of
    living ones, and are deleted here. `mode` is less the umask. OSError where the disk says no.
    """
    for left in path.parent.glob(f".{path.name}.*.part"):
        _delete_if_left(left)
    draft, descriptor = _begun(path, mode)
    try:
        yield draft
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        os.close(descriptor)


def _begun(path: Path, mode: int) -> tuple[Path, int]:
    while True:
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if draft.exists():  # else another writer took it for one that was left, before it was locked
            return draft, descriptor
        os.close(descriptor)


def _delete_if_left(draft: Path) -> None:
    with suppress(OSError):  # locked, or gone already
        descriptor = os.open(draft, os.O_WRONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.unlink()
        finally:
            os.close(descriptor)
