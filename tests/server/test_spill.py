"""What is put by on disk comes back bit by bit, is read in parts, and leaves nothing behind."""

import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors import safe_open

from medgan_core.dtypes import BFLOAT16
from medgan_core.errors import IntegrityError, MedGANError
from medgan_core.messages import Groups, Phase, Update
from server.spill import Spill, SpilledArrays, empty_like, read_part

NAMES = st.text("abcdefghij.0123456789_", min_size=1, max_size=8)
TENSORS = st.sampled_from(["<f4", "<f8", "<f2", "<i8", "|u1", "|b1", "<u8"]).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
GROUPS = st.dictionaries(NAMES, st.dictionaries(NAMES, TENSORS, max_size=3), max_size=3)


def update_of(groups: Groups, site: str = "north") -> Update:
    receipt: Any = None
    return Update(site, 1, Phase.TRAIN, groups, {"loss": 1.5}, receipt)


@given(GROUPS)
def test_an_update_comes_back_bit_by_bit(groups: Groups) -> None:
    update = update_of(groups)
    with Spill() as spill:
        kept = spill.keep(update)
        assert kept.digest() == update.digest()
        assert {name: list(part) for name, part in kept.groups.items()} == {
            name: list(part) for name, part in groups.items()
        }


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_bfloat16_keeps_dtype_shape_and_bytes(shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(BFLOAT16)
    with Spill() as spill:
        back = spill.keep(update_of({"g": {"w": array}})).groups["g"]["w"]
    assert (back.dtype, back.shape, back.tobytes()) == (BFLOAT16, shape, array.tobytes())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 50), st.data())
def test_any_part_is_that_of_the_array_in_memory(size: int, data: st.DataObject) -> None:
    array = np.arange(2.0 * size).reshape(2, size).T
    start = data.draw(st.integers(0, array.size))
    count = data.draw(st.integers(0, array.size - start))
    with Spill() as spill:
        kept = spill.keep(update_of({"g": {"w": array, "b": np.ones(3)}})).groups["g"]
        for source in (kept, {"w": array}):
            part = np.empty(count)
            read_part(source, "w", start, part)
            assert np.array_equal(part, array.reshape(-1)[start : start + count])


def test_the_file_is_what_the_library_reads(tmp_path: Path) -> None:
    with Spill(tmp_path / "arrivals") as spill:
        spill.keep(update_of({"g": {"w": np.arange(6.0).reshape(2, 3), "n": np.array(4)}}))
        (file,) = spill.folder.iterdir()
        with safe_open(file, framework="numpy") as opened:
            assert opened.get_tensor("g/w").tolist() == [[0, 1, 2], [3, 4, 5]]
            assert opened.get_tensor("g/n") == 4


def test_shapes_are_known_without_reading() -> None:
    with Spill() as spill:
        kept = spill.keep(update_of({"g": {"w": np.ones((2, 3), np.float32)}})).groups["g"]
        spill.clear()
        assert isinstance(kept, SpilledArrays)
        (like,) = empty_like(kept).values()
        assert (like.shape, like.dtype, len(kept)) == ((2, 3), np.dtype(np.float32), 1)


def test_nothing_is_left_behind_whatever_happens(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "arrivals"

    def broken() -> None:
        with Spill(folder) as spill:
            spill.keep(update_of({"g": {"w": np.ones(3)}}))
            assert len(list(folder.iterdir())) == 1
            spill.clear()
            assert not list(folder.iterdir())
            spill.keep(update_of({"g": {"w": np.ones(3)}}))
            raise ValueError

    with pytest.raises(ValueError):
        broken()
    assert not folder.exists()
    with Spill() as spill:
        folder = spill.folder
    assert not folder.exists()


def test_what_a_killed_run_left_is_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "arrivals"
    folder.mkdir()
    (folder / "000000.safetensors").write_bytes(b"half")
    with Spill(folder):
        assert not list(folder.iterdir())


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MedGANError, match="free some, then resume"), Spill(tmp_path / "file" / "arrivals"):
        pass


def test_a_disk_without_room_is_told(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Spill(tmp_path / "arrivals") as spill:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        try:
            with pytest.raises(MedGANError, match=r"could not be kept.*: .*free some, then resume"):
                spill.keep(update_of({"g": {"w": np.ones(100_000)}}))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_was_deleted_or_cut_is_told(tmp_path: Path) -> None:
    with Spill(tmp_path / "arrivals") as spill:
        kept = spill.keep(update_of({"g": {"w": np.ones(100)}})).groups["g"]
        (file,) = spill.folder.iterdir()
        file.write_bytes(file.read_bytes()[:-8])
        with pytest.raises(IntegrityError, match="w of an update that was kept for this round: cut short"):
            kept["w"]
        file.unlink()
        with pytest.raises(IntegrityError, match=r"No such file.*sites answer again"):
            kept["w"]
