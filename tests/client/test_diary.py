"""The site's log is on disk before what it speaks of, and whoever changes it is found out."""

import json
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.diary import NO_HEAD, Diary
from medgan_core.errors import IntegrityError, MedGANError


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    made = Diary(tmp_path / "log.jsonl")
    for number in range(5):
        made.add("answered", run="run-1", round=number, bytes=100 * number)
    return made


def test_lines_are_numbered_chained_and_private(diary: Diary) -> None:
    notes = diary.notes()
    assert [note.sequence for note in notes] == [1, 2, 3, 4, 5]
    assert notes[0].previous == NO_HEAD
    assert diary.head() == (5, notes[-1].hash)
    assert diary.path.stat().st_mode & 0o777 == 0o600
    assert Diary(diary.path.with_name("none")).notes() == ()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(where=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_any_changed_byte_is_found(diary: Diary, where: int, flip: int) -> None:
    whole = diary.path.read_bytes()
    place = where % (len(whole) - 1)  # the last newline is that of a line cut short
    changed = bytearray(whole)
    changed[place] ^= flip
    diary.path.write_bytes(changed)
    try:
        with pytest.raises(IntegrityError):
            diary.check(5, json.loads(whole.splitlines()[-1])["hash"])
    finally:
        diary.path.write_bytes(whole)


def test_another_spelling_of_a_line_is_found(diary: Diary) -> None:
    diary.path.write_bytes(diary.path.read_bytes().replace(b": ", b":  ", 1))
    with pytest.raises(IntegrityError, match="line 1"):
        diary.notes()


@pytest.mark.parametrize("gone", range(5))
def test_a_removed_line_is_found(diary: Diary, gone: int) -> None:
    sequence, head = diary.head()
    lines = diary.path.read_bytes().splitlines(keepends=True)
    diary.path.write_bytes(b"".join(lines[:gone] + lines[gone + 1 :]))
    with pytest.raises(IntegrityError, match=r"log\.jsonl"):
        diary.check(sequence, head)


def test_a_line_written_anew_with_its_chain_is_found_by_the_copy_of_the_head(diary: Diary) -> None:
    sequence, head = diary.head()
    diary.path.unlink()
    for number in range(5):
        diary.add("answered", run="run-1", round=number, bytes=0)
    diary.notes()
    with pytest.raises(IntegrityError, match=r"heads\.json"):
        diary.check(sequence, head)


@pytest.mark.parametrize("cut", [1, 20])
def test_a_line_cut_short_by_a_crash_is_mended_and_said_so(diary: Diary, cut: int) -> None:
    whole = diary.path.read_bytes()
    diary.path.write_bytes(whole + b'{"facts": {"run": "run'[:cut])
    assert len(diary.notes()) == 5
    diary.add("asked")
    assert [note.kind for note in diary.notes()[5:]] == ["mended", "asked"]
    assert diary.notes()[5].facts == {"bytes": cut}


def test_a_first_line_cut_short_leaves_an_empty_log(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(b'{"fac')
    diary = Diary(tmp_path / "log.jsonl")
    assert diary.head() == (0, NO_HEAD)
    diary.add("init")
    assert [note.kind for note in diary.notes()] == ["mended", "init"]


def test_long_lines_are_read_back(tmp_path: Path) -> None:
    diary = Diary(tmp_path / "log.jsonl")
    for number in range(3):
        diary.add("long", text="ä" * 20_000, number=number)
    assert [note.facts["number"] for note in diary.notes()] == [0, 1, 2]


def _write(path: Path) -> None:
    for _ in range(20):
        Diary(path).add("asked")


def test_processes_write_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(_write, [path, path])
    assert len(Diary(path).notes()) == 40


def test_a_changed_last_line_is_not_written_after(diary: Diary) -> None:
    lines = diary.path.read_bytes().splitlines()
    diary.path.write_bytes(b"\n".join([*lines[:-1], lines[-1].replace(b"400", b"401")]) + b"\n")
    with pytest.raises(IntegrityError, match="last line was changed"):
        diary.add("asked")


def test_a_full_disk_is_an_error_without_a_path(tmp_path: Path) -> None:
    with pytest.raises(MedGANError, match=r"log\.jsonl could not be written") as caught:
        Diary(tmp_path / "none" / "log.jsonl").add("asked")
    assert str(tmp_path) not in str(caught.value)
