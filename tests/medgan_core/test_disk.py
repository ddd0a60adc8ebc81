"""Drafts: each writer has its own, and those of writers that were killed do not pile up."""

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from medgan_core.disk import draft_of
from medgan_core.record import write_atomically

TIMES = 20


def _write(path: Path, letter: int) -> set[bytes]:
    """Write again and again; what was read in between."""
    read = set()
    for _ in range(TIMES):
        write_atomically(path, bytes([letter]) * 20_000)
        read.add(path.read_bytes())
    return read


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_writers_of_one_file_do_not_meet(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    made = (
        ThreadPoolExecutor(4)
        if kind == "threads"
        else ProcessPoolExecutor(3, mp_context=get_context("forkserver"))
    )
    with made as pool:
        done = [pool.submit(_write, path, letter) for letter in range(4)]
        read = set().union(*(each.result() for each in done))
    assert read <= {bytes([letter]) * 20_000 for letter in range(4)}
    assert [left.name for left in tmp_path.iterdir()] == ["a"]


def test_a_draft_is_gone_with_its_block_whatever_ends_it(tmp_path: Path) -> None:
    def interrupted() -> None:
        with draft_of(tmp_path / "a") as draft:
            draft.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with draft_of(tmp_path / "a") as draft:
        draft.replace(tmp_path / "a")
    assert [left.name for left in tmp_path.iterdir()] == ["a"]


def test_a_draft_of_a_writer_that_was_killed_goes_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    code = f"""
        import os, signal
        from pathlib import Path
        from medgan_core.disk import draft_of
        with draft_of(Path({str(tmp_path / "a")!r})):
            os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False, timeout=60)
    [left] = tmp_path.iterdir()
    with draft_of(tmp_path / "b"):
        assert left.exists()  # of another file
    with draft_of(tmp_path / "a") as first, draft_of(tmp_path / "a") as second:
        assert sorted(tmp_path.iterdir()) == sorted([first, second])


def test_a_draft_has_the_mode_that_is_asked_for(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        for mode, expected in ((0o666, 0o644), (0o600, 0o600)):
            with draft_of(tmp_path / "a", mode) as draft:
                assert draft.stat().st_mode & 0o777 == expected
    finally:
        os.umask(before)
