"""Updates on disk until their round is aggregated, so that memory holds one of them at a time.

Written as safetensors, and read part by part with plain reads: the library maps files into memory, where all
that was read counts as this process's.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from medgan_core.dtypes import raw_bytes
from medgan_core.errors import IntegrityError, MedGANError
from medgan_core.messages import Array, Arrays, Update

_LENGTH_BYTES = 8
_DATA = "data_offsets"


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies in a file: bytes from its start."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class SpilledArrays(Mapping[str, Array]):
    """The tensors of one group in a spilled update: each is read when it is asked for, and not kept."""

    def __init__(self, path: Path, places: Mapping[str, _Place]) -> None:
        self._path = path
        self._places = places

    def __getitem__(self, name: str) -> Array:
        place = self._places[name]
        array: Array = np.empty(place.shape, place.dtype)
        self.read(name, 0, array.reshape(-1))
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def like(self) -> dict[str, Array]:
        """New arrays of the same names, shapes and dtypes, with anything in them."""
        return {name: np.empty(place.shape, place.dtype) for name, place in self._places.items()}

    def read(self, name: str, start: int, into: Array) -> None:
        """Fill `into` [n], of the tensor's dtype, with its numbers from `start` on, in C order.

        Raises IntegrityError where the file was deleted or cut meanwhile.
        """
        place, wanted = self._places[name], memoryview(raw_bytes(into))
        at = place.offset + start * place.dtype.itemsize
        try:
            descriptor = os.open(self._path, os.O_RDONLY)
            try:
                while wanted and (read := os.preadv(descriptor, [wanted], at)):
                    wanted, at = wanted[read:], at + read
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _lost(name, error.strerror or "unreadable") from error
        if wanted:
            raise _lost(name, "cut short")


class Spill:
    """A folder for the updates of one round, emptied at its start and gone when the course ends.

    `folder` is made where missing, and whatever a killed run left in it is deleted; None is a new folder
    among the system's temporary ones.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._asked = folder
        self._count = 0

    def __enter__(self) -> Self:
        try:
            if self._asked is None:
                self.folder = Path(tempfile.mkdtemp(prefix="medgan-"))
            else:
                self.folder = self._asked
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder.mkdir(parents=True, mode=0o700)
        except OSError as error:
            raise _full(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def keep(self, update: Update) -> Update:
        """The same update with its tensors on disk. Raises MedGANError where they find no room."""
        path = self.folder / f"{self._count:06d}.safetensors"
        self._count += 1
        flat = {
            f"{group}/{name}": np.asarray(array, order="C")
            for group, arrays in update.groups.items()
            for name, array in arrays.items()
        }
        try:
            save_file(flat, path)
            offsets = _offsets(path)
        except (OSError, SafetensorError) as error:
            raise _full(error) from error
        groups = {
            group: SpilledArrays(
                path,
                {n: _Place(offsets[f"{group}/{n}"], a.shape, a.dtype) for n, a in arrays.items()},
            )
            for group, arrays in update.groups.items()
        }
        return replace(update, groups=groups)

    def clear(self) -> None:
        """Delete the updates of a round that is over."""
        for path in self.folder.glob("*.safetensors"):
            path.unlink(missing_ok=True)


def read_part(arrays: Arrays, name: str, start: int, into: Array) -> None:
    """Fill `into` [n] with numbers of a tensor from `start` on, be it in memory or on disk."""
    if isinstance(arrays, SpilledArrays):
        arrays.read(name, start, into)
    else:
        into[...] = arrays[name].reshape(-1)[start : start + into.size]


def empty_like(arrays: Arrays) -> dict[str, Array]:
    """New arrays of the same names, shapes and dtypes, with anything in them; nothing is read."""
    if isinstance(arrays, SpilledArrays):
        return arrays.like()
    return {name: np.empty(array.shape, array.dtype) for name, array in arrays.items()}


def _offsets(path: Path) -> dict[str, int]:
    """Where each tensor begins in a safetensors file: after the header's length, and the header."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        header = json.loads(stream.read(length))
    return {name: _LENGTH_BYTES + length + told[_DATA][0] for name, told in header.items()}


def _full(error: Exception) -> MedGANError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return MedGANError(
        f"an update could not be kept until its round is aggregated: {reason}. Every site's update of a "
        "round needs room on this disk: free some, then resume"
    )


def _lost(name: str, reason: str) -> IntegrityError:
    return IntegrityError(
        f"{name} of an update that was kept for this round: {reason}. Resume the run: sites answer again"
    )
