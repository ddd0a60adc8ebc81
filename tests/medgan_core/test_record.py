import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medgan_core import record
from medgan_core.config import Study, parse_study
from medgan_core.dtypes import BFLOAT16
from medgan_core.errors import InputError, IntegrityError, MedGANError
from medgan_core.messages import Array, digest_groups
from medgan_core.record import (
    RunFolder,
    environment,
    load_groups,
    make_folder,
    read_json,
    save_groups,
    write_atomically,
    write_json,
)

GROUPS: dict[str, dict[str, Array]] = {"g": {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}}


@pytest.fixture(scope="module")
def study() -> Study:
    return parse_study({"name": "x", "data": {"kind": "npz", "path": "x.npz"}})


@pytest.fixture
def run(tmp_path: Path, study: Study) -> RunFolder:
    return RunFolder.create(tmp_path / "runs", study)


@pytest.fixture(autouse=True)
def _no_part_files(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.rglob("*.part"))


def broken(code: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


BREAKS = [
    pytest.param("os.fsync", errno.ENOSPC, id="the disk is full at fsync"),
    pytest.param("pathlib.Path.open", errno.EROFS, id="the folder is read-only"),
    pytest.param("pathlib.Path.replace", errno.EACCES, id="the rename is not allowed"),
]


# One file


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"one")
    write_atomically(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(("place", "code"), BREAKS)
def test_what_cannot_be_saved_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, code: int
) -> None:
    write_atomically(tmp_path / "a", b"old")
    with monkeypatch.context() as patch:
        patch.setattr(place, broken(code))
        with pytest.raises(MedGANError, match=rf"^a could not be saved: {os.strerror(code)}; what was"):
            write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"


def test_an_interrupted_write_leaves_the_old_file_and_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    write_atomically(tmp_path / "a", b"old")
    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_process_killed_before_the_rename_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"old")
    code = f"""
        import os, signal
        from pathlib import Path
        from medgan_core.record import write_atomically
        Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        write_atomically(Path({str(path)!r}), b"new")
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    write_atomically(path, b"newer")  # and the next write clears up
    assert path.read_bytes() == b"newer"


def test_content_is_on_disk_before_the_rename_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        order.append("folder" if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir() else "file")
        fsync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        order.append("rename")
        return replace(self, target)

    monkeypatch.setattr("os.fsync", synced)
    monkeypatch.setattr("pathlib.Path.replace", renamed)
    write_atomically(tmp_path / "a", b"x")
    assert order == ["file", "rename", "folder"]


def test_a_full_disk_leaves_the_previous_state_valid(tmp_path: Path, study: Study) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        run = RunFolder.create(mount, study)
        run.save_state(1, GROUPS, {"round": 1})
        with pytest.raises(MedGANError, match="No space left on device"):
            run.save_state(2, {"g": {"w": np.zeros(100_000)}}, {"round": 2})
        assert newest(run) == 1
        assert not list(mount.rglob("*.part"))
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    with pytest.raises(MedGANError, match="c could not be saved: Not a directory"):
        make_folder(tmp_path / "file" / "c")


def test_json_is_readable_and_survives(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ä": [1, 2.5, None]})
    assert (tmp_path / "a.json").read_text() == '{\n  "ä": [\n    1,\n    2.5,\n    null\n  ]\n}\n'
    assert read_json(tmp_path / "a.json") == {"ä": [1, 2.5, None]}


@pytest.mark.parametrize("content", [b"{", b"\xff", None])
def test_damaged_json_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"^a\.json cannot be read"):
        read_json(tmp_path / "a.json")


# Groups of arrays

DTYPES = st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_])
ARRAYS = DTYPES.flatmap(lambda d: arrays.arrays(d, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0)))
NAMES = st.text(alphabet="ab./_0", min_size=1, max_size=5)
JSON = st.dictionaries(st.text(max_size=3), st.one_of(st.integers(), st.text(max_size=3), st.none()))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from("gh"), st.dictionaries(NAMES, ARRAYS, min_size=1, max_size=3)), JSON)
def test_groups_survive_the_disk(
    tmp_path: Path, groups: dict[str, dict[str, Array]], header: dict[str, Any]
) -> None:
    save_groups(tmp_path / "a", groups, header)
    read, told = load_groups(tmp_path / "a")
    assert told == header
    assert {(g, n) for g in read for n in read[g]} == {(g, n) for g in groups for n in groups[g]}
    for group, named in groups.items():
        for name, array in named.items():
            found = read[group][name]
            assert (found.dtype, found.shape) == (array.dtype, array.shape)
            assert found.tobytes() == array.tobytes()


def test_the_layout_in_memory_does_not_matter(tmp_path: Path) -> None:
    square = np.arange(6).reshape(2, 3).T
    save_groups(tmp_path / "a", {"g": {"w": square, "every-other": np.arange(6)[::2]}}, None)
    read = load_groups(tmp_path / "a")[0]["g"]
    assert np.array_equal(read["w"], square)
    assert np.array_equal(read["every-other"], [0, 2, 4])


def test_bfloat16_survives_the_disk(tmp_path: Path) -> None:
    groups = {"g": {"w": np.arange(6).reshape(2, 3).astype(BFLOAT16), "n": np.array(7)}}
    save_groups(tmp_path / "g", groups, {})
    back, _ = load_groups(tmp_path / "g")
    assert back["g"]["w"].dtype == BFLOAT16
    assert digest_groups(back) == digest_groups(groups)


def test_every_single_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    save_groups(path, GROUPS, {"round": 1})
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(IntegrityError, match=r"^a is damaged"):
            load_groups(path)


@pytest.mark.parametrize("content", [None, b"", b"garbage", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}"])
def test_a_file_that_holds_no_groups_is_damaged(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"^a is damaged or missing"):
        load_groups(tmp_path / "a")


# Run folders


def newest(run: RunFolder) -> int:
    state = run.latest_state()
    assert state is not None
    return int(state[1]["round"])


def test_a_new_run_holds_its_study_and_its_environment(run: RunFolder, study: Study) -> None:
    assert run.study() == study
    assert run.name.startswith("x-2")
    assert read_json(run.path / "environment.json") == environment()
    assert RunFolder.open(run.path).name == run.name
    assert run.latest_state() is None


def test_the_environment_tells_versions_and_no_place(tmp_path: Path) -> None:
    told = json.dumps(environment())
    assert {"torch", "opacus", "numpy"} <= environment()["packages"].keys()
    assert os.uname().nodename not in told
    assert str(Path.home()) not in told


def test_packages_that_are_missing_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "_PACKAGES", ("no-such-package-of-medgan",))
    assert environment()["packages"] == {"no-such-package-of-medgan": "not installed"}


def test_two_runs_of_the_same_second_get_folders_of_their_own(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Stopped":
            return cls(2030, 1, 2, 3, 4, 5, tzinfo=UTC)

    monkeypatch.setattr(record, "datetime", Stopped)
    names = [RunFolder.create(tmp_path, study).name for _ in range(3)]
    assert names == ["x-20300102T030405Z", "x-20300102T030405Z-2", "x-20300102T030405Z-3"]


def test_out_may_hold_other_things_and_may_not_be_a_file(tmp_path: Path, study: Study) -> None:
    (tmp_path / "notes").write_text("kept")
    RunFolder.create(tmp_path, study)
    assert (tmp_path / "notes").read_text() == "kept"
    for out in (tmp_path / "notes", tmp_path / "notes" / "below"):
        with pytest.raises(InputError, match=f"--out {out.name}: "):
            RunFolder.create(out, study)


def test_out_that_points_to_nothing_is_told(tmp_path: Path, study: Study) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match="--out link: expected a folder"):
        RunFolder.create(tmp_path / "link", study)


def test_a_folder_without_a_study_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no study"):
        RunFolder.open(tmp_path)


def test_the_latest_two_states_are_kept(run: RunFolder) -> None:
    for number in range(1, 5):
        run.save_state(number, GROUPS, {"round": number})
        assert newest(run) == number
    assert sorted(path.name for path in (run.path / "state").iterdir()) == [
        "round-000003.safetensors",
        "round-000004.safetensors",
    ]


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "header"])
def test_a_damaged_newest_state_falls_back_to_the_previous(run: RunFolder, damage: str) -> None:
    for number in (1, 2):
        run.save_state(number, GROUPS, {"round": number})
    path = run.path / "state" / "round-000002.safetensors"
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "cut": whole[:-1],
            "flipped": whole[:-1] + bytes([whole[-1] ^ 1]),
            "header": b"\xff" * 16 + whole[16:],
        }[damage]
    )
    assert newest(run) == 1
    run.save_state(2, GROUPS, {"round": 2})
    assert newest(run) == 2


@pytest.mark.parametrize(("place", "code"), BREAKS)
def test_a_state_that_cannot_be_saved_leaves_the_previous(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, place: str, code: int
) -> None:
    for number in (1, 2):
        run.save_state(number, GROUPS, {"round": number})
    with monkeypatch.context() as patch:
        patch.setattr(place, broken(code))
        with pytest.raises(MedGANError, match=os.strerror(code)):
            run.save_state(3, GROUPS, {"round": 3})
    assert newest(run) == 2
    assert len(list((run.path / "state").iterdir())) == 2


def test_a_state_that_cannot_be_dropped_does_no_harm(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2):
        run.save_state(number, GROUPS, {"round": number})
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", broken(errno.EACCES))
        run.save_state(3, GROUPS, {"round": 3})
    assert newest(run) == 3


def test_rounds_are_one_line_each(run: RunFolder) -> None:
    run.write_rounds(({"round": 0}, {"round": 1, "auc": 0.5}))
    lines = (run.path / "rounds.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"round": 0}, {"round": 1, "auc": 0.5}]


def test_every_site_has_its_folder(run: RunFolder) -> None:
    assert run.site("site-1") == run.site("site-1") == run.path / "sites" / "site-1"
    assert run.site("site-1").is_dir()
