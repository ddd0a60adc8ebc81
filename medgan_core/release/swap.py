"""A folder that is either the old one or the new one."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medgan_core.disk import fsync_folder


@contextmanager
def swapped_in(folder: Path) -> Iterator[Path]:
    """A new empty folder beside `folder`, which takes its place when the block ends well.

    On an exception nothing is left of the new one and the old one stands. Parents are created. OSError where
    the disk says no. Between the two renames of an existing folder a crash leaves the old one beside it,
    under a hidden name.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex[:8]
    part = folder.with_name(f".{folder.name}.{mark}.part")
    part.mkdir()
    try:
        yield part
        fsync_folder(part)
        _put(part, folder, folder.with_name(f".{folder.name}.{mark}.old"))
        fsync_folder(folder.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _put(part: Path, folder: Path, old: Path) -> None:
    if not folder.exists():
        part.rename(folder)
        return
    folder.rename(old)
    try:
        part.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
