"""DICOM images, one file or the slices of a series, and what is written of them.

Brightness is that of training: public windows for CT, the file's own for others.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileDataset
from pydicom.pixels.processing import apply_modality_lut

from medgan_core.data.dicom.frames import frame_count
from medgan_core.data.dicom.header import FrameHeader, parse, read_header
from medgan_core.data.dicom.pixels import Frame, decode, to_unit
from medgan_core.data.dicom.sources import Source, open_source
from medgan_core.data.places import DAMAGE
from medgan_core.data.volumes import scaled
from medgan_core.data_config import DataConfig
from medgan_core.errors import DataError
from medgan_core.release.apply.derived import derived
from medgan_core.release.apply.heat import heat_picture
from medgan_core.release.apply.masks import segmentation
from medgan_core.release.apply.pictures import Made, Pictures, Scale, overlay, put_back

Array = NDArray[Any]
_NO_SLICE = 0.9
"""Cosine to the patient's long axis from which a slice is axial."""


@dataclass(frozen=True, eq=False)
class Opened:
    """One file: its header without pixels, and of each frame the stored values [h, w] or [h, w, 3]."""

    name: str
    dataset: FileDataset
    stored: tuple[Array, ...]
    units: tuple[NDArray[np.float32], ...]


@dataclass(eq=False)
class Slices:
    """Files of one series and size. Each may have several frames."""

    sources: Sequence[tuple[str, Source]]
    data: DataConfig
    _opened: list[Opened] = field(init=False)
    _pictures: Pictures = field(init=False)

    @property
    def name(self) -> str:
        """That of the first file, and how many follow."""
        first, count = self.sources[0][0], len(self.sources)
        return first if count == 1 else f"{first} and {count - 1} more of its series"

    def read(self) -> Pictures:
        """All frames of all files [n, 1 or 3, h, w]."""
        headers = [read_header(source, "all", training=False).frames for _, source in self.sources]
        frames = [
            list(decode(source, range(len(h)))) for (_, source), h in zip(self.sources, headers, strict=True)
        ]
        flat = [frame for found in frames for frame in found]
        if len({frame.stored.shape for frame in flat}) != 1:
            raise DataError("its images differ in size; give files of each size a folder of their own")
        units = iter(self._bright(flat, [header for found in headers for header in found]))
        self._opened = [
            Opened(name, _header(source), tuple(f.stored for f in found), tuple(next(units) for _ in found))
            for (name, source), found in zip(self.sources, frames, strict=True)
        ]
        images = np.stack([_channels(unit) for one in self._opened for unit in one.units])
        spacing = headers[0][0].spacing
        self._pictures = Pictures(
            torch.from_numpy(images) * 2 - 1,
            (spacing[0], spacing[1]) if spacing else None,
            tuple(f"{one.name} frame {i + 1}" for one in self._opened for i in range(len(one.stored))),
        )
        return self._pictures

    def _bright(self, frames: Sequence[Frame], headers: Sequence[FrameHeader]) -> list[NDArray[np.float32]]:
        if self.data.kind != "nifti":
            window = self.data.window if self.data.kind == "dicom" else "file"
            return [to_unit(frame, window)[0] for frame in frames]
        if any(not header.normal or abs(header.normal[2]) < _NO_SLICE for header in headers):
            raise DataError("is no axial slice, or does not say so; the network was trained on axial ones")
        values = [np.asarray(apply_modality_lut(f.stored, f.header), np.float32) for f in frames]
        found = scaled(np.stack(values))
        if found is None:
            raise DataError("has one value everywhere; expected an image")
        return list((found + 1) / 2)

    def files(self, made: Made) -> Iterator[tuple[str, bytes]]:
        """One SEG over all slices; or for each file a derived image, or captures of its heat maps."""
        try:
            if made.purpose == "segmentation":
                dataset = segmentation([one.dataset for one in self._opened], made.masks(), made.origin)
                yield _named(self._opened[0].name, "_mask"), _bytes(dataset)
                return
            first = 0
            for one in self._opened:
                yield from self._of_file(one, first, made)
                first += len(one.stored)
        except DAMAGE as error:
            raise DataError(f"an output cannot be written as DICOM: {_first_line(error)}") from error

    def _of_file(self, one: Opened, first: int, made: Made) -> Iterator[tuple[str, bytes]]:
        many = range(len(one.stored))
        if made.purpose != "anomaly":
            pixels = np.stack([self._put_back(one, i, first + i, made) for i in many])
            yield _named(one.name, ""), _bytes(derived(one.dataset, pixels, made))
            return
        for i in many:
            shown = overlay(self._pictures.images[first + i], made.outputs[first + i, 0])
            score = float(made.scores[first + i]) if made.scores is not None else None
            suffix = "_heat" if len(one.stored) == 1 else f"_heat{i + 1:04d}"
            yield _named(one.name, suffix), _bytes(heat_picture(one.dataset, i, shown, score, made.origin))

    def _put_back(self, one: Opened, frame: int, index: int, made: Made) -> Array:
        """Values as they are to be stored, [f·h, f·w] or [f·h, f·w, 3], not rounded yet."""
        stored, unit = one.stored[frame], one.units[frame]
        if stored.ndim != unit.ndim:
            raise ValueError("its colours are those of a palette, which has no others")
        if stored.ndim == 2:
            values = put_back(stored, unit, Scale.of(stored, unit), made, index, 0)
            return _padded(values, stored, one.dataset.get("PixelPaddingValue"), made.factor)
        scale = Scale.between(0, 2 ** int(one.dataset.BitsStored) - 1)
        parts = (put_back(stored[..., c], unit[..., c], scale, made, index, c) for c in range(3))
        return np.stack(list(parts), axis=-1)


def _padded(values: Array, stored: Array, padding: int | None, factor: int) -> Array:
    """Values with the padding around the body as it was (PS3.3 C.7.5.1.1.2)."""
    if padding is None:
        return values
    outside = (stored == padding).repeat(factor, 0).repeat(factor, 1)
    return np.where(outside, padding, values)


def _channels(unit: NDArray[np.float32]) -> NDArray[np.float32]:
    return unit[None] if unit.ndim == 2 else np.ascontiguousarray(unit.transpose(2, 0, 1))


def _header(source: Source) -> FileDataset:
    stream, _ = open_source(source)
    with stream:
        dataset, _ = parse(stream, None)
    frame_count(dataset)
    return dataset


def _named(name: str, suffix: str) -> str:
    path = PurePosixPath(name)
    plain = path.name[: -len(".dcm")] if path.name.lower().endswith(".dcm") else path.name
    return (path.parent / f"{plain}{suffix}.dcm").as_posix()


def _bytes(dataset: Dataset) -> bytes:
    stream = io.BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
