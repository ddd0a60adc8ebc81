"""Series of one patient: the order of slices, gaps, stacks of neighbours, and how many images are taken.

All of it looks at the headers of one patient alone, so that nobody's images depend on another patient.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from medgan_core.config import DataConfig
from medgan_core.data.dicom.header import FrameHeader, Header
from medgan_core.data.dicom.reasons import Refusal, Repair
from medgan_core.data.volumes import spread, windows
from medgan_core.sections import SMALLEST_DEPTH

_PARALLEL = 0.99
_SAME, _GAP, _FAR = 1e-3, 0.1, 3.0
"""Slices nearer than 1e-3 mm are of one position; steps may differ by a tenth from their median, and those of
a volume that is resampled as a whole be three times as long."""


@dataclass(frozen=True)
class Slice:
    """A frame of a file; `file` is the file's place in the listing."""

    file: int
    frame: int


Blend = tuple[tuple[Slice, float], ...]
"""A weighted sum of slices: one of them, or two between which a resampled one lies."""


@dataclass(frozen=True)
class Picture:
    """One image for training: a blend for each channel, or a single one for all of them."""

    channels: tuple[Blend, ...]
    series: str

    @property
    def center(self) -> Slice:
        """The slice that it is named after."""
        return self.channels[len(self.channels) // 2][0][0]

    @property
    def slices(self) -> tuple[Slice, ...]:
        """All slices that it needs."""
        return tuple(dict.fromkeys(part for blend in self.channels for part, _ in blend))


@dataclass(frozen=True, eq=False)
class Plan:
    """What is taken of a patient; `refused` and `repaired` are of files."""

    pictures: tuple[Picture, ...]
    refused: dict[int, Refusal] = field(default_factory=dict)
    repaired: dict[int, Repair] = field(default_factory=dict)


@dataclass(frozen=True)
class _Line:
    """The slices of a series in order; `places` are mm along the normal, none where these are not known."""

    slices: tuple[Slice, ...]
    places: tuple[float, ...]

    @property
    def even(self) -> bool:
        """Whether all steps are alike and none is 0."""
        steps = sorted(b - a for a, b in zip(self.places, self.places[1:], strict=False))
        middle = steps[len(steps) // 2] if steps else 0.0
        return all(step > _SAME and abs(step - middle) <= _GAP * middle for step in steps)


def plan(files: Mapping[int, Header], data: DataConfig) -> Plan:
    """What a study takes of one patient's files, without localizers and without those that were refused."""
    made = Plan(())
    pictures: list[Picture] = []
    for series, members in sorted(_series(files).items()):
        line, by_position = _ordered(members, files)
        if by_position and _unnumbered([files[i] for i in members]):
            made.repaired.update(dict.fromkeys(members, Repair.ORDER))
        found = _pictures(line, data, series)
        if isinstance(found, Refusal):
            made.refused.update(dict.fromkeys(members, found))
            continue
        if line.places and not line.even:
            made.repaired.update(dict.fromkeys(members, Repair.UNEVEN))
        pictures += found
    chosen = spread(pictures, data.slices_per_patient)
    used = {part.file for picture in chosen for part in picture.slices}
    left = [i for i in files if i not in used and i not in made.refused]
    made.refused.update(dict.fromkeys(left, Refusal.CAP))
    return Plan(tuple(chosen), made.refused, {i: r for i, r in made.repaired.items() if i in used})


def _series(files: Mapping[int, Header]) -> dict[str, list[int]]:
    """Files of one SeriesInstanceUID and one kind; a file with several frames is a series of its own."""
    found: dict[str, list[int]] = {}
    for index, header in files.items():
        alone = header.uid if len(header.frames) > 1 or not header.series else ""
        found.setdefault(f"{header.series}\n{header.kind}\n{alone}", []).append(index)
    return found


def _ordered(members: Sequence[int], files: Mapping[int, Header]) -> tuple[_Line, bool]:
    """By position along the normal where all slices have both; else by InstanceNumber, then by name."""
    found = [(Slice(i, frame.frame), frame) for i in members for frame in files[i].frames]
    normal = found[0][1].normal
    if len(found) > 1 and all(_lies_along(frame, normal) for _, frame in found):
        placed = sorted((_along(frame.position, normal), part.file, part.frame) for part, frame in found)
        slices = tuple(Slice(file, frame) for _, file, frame in placed)
        return _Line(slices, tuple(place for place, _, _ in placed)), True

    def number(part: Slice) -> tuple[bool, int, int, int]:
        stated = files[part.file].number
        return stated is None, stated or 0, part.file, part.frame

    return _Line(tuple(sorted((part for part, _ in found), key=number)), ()), False


def _lies_along(frame: FrameHeader, normal: Sequence[float]) -> bool:
    return bool(frame.position and frame.normal and normal) and _along(frame.normal, normal) > _PARALLEL


def _along(vector: Sequence[float], normal: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(vector, normal, strict=True))


def _unnumbered(headers: Sequence[Header]) -> bool:
    numbers = [header.number for header in headers]
    return None in numbers or len(set(numbers)) < len(numbers)


def _pictures(line: _Line, data: DataConfig, series: str) -> list[Picture] | Refusal:
    """The images of a series, or why there can be none."""
    if data.depth:
        return _patches(line, data, series)
    volume = data.stack > 1 or data.slice_spacing > 0
    if not volume:
        return [Picture((((part, 1.0),),), series) for part in line.slices]
    if len(line.places) < 2:
        return Refusal.NO_NEIGHBOURS
    if not line.even:
        return Refusal.UNEVEN
    blends = (
        _blends(line, _every(line, data.slice_spacing))
        if data.slice_spacing
        else [((s, 1.0),) for s in line.slices]
    )
    if data.stack == 1:
        return [Picture((blend,), series) for blend in blends]
    if len(blends) < data.stack:
        return Refusal.NO_NEIGHBOURS
    stacks = (tuple(blends[i : i + data.stack]) for i in range(len(blends) - data.stack + 1))
    return [Picture(stack, series) for stack in stacks]


def _patches(line: _Line, data: DataConfig, series: str) -> list[Picture] | Refusal:
    """The images of a volume; its slices may lie unevenly, but none be far from the next or at its place."""
    steps = sorted(b - a for a, b in zip(line.places, line.places[1:], strict=False))
    if len(steps) < SMALLEST_DEPTH - 1:
        return Refusal.NO_NEIGHBOURS
    if steps[0] <= _SAME or steps[-1] > _FAR * steps[len(steps) // 2]:
        return Refusal.UNEVEN
    first, length = line.places[0], line.places[-1] - line.places[0]
    found = []
    for begin, end in windows(len(line.slices), data.depth, data.patches):
        shares = (begin + (end - begin) * i / (data.depth - 1) for i in range(data.depth))
        found.append(Picture(tuple(_blends(line, [first + share * length for share in shares])), series))
    return found


def _every(line: _Line, spacing: float) -> list[float]:
    """Places at every `spacing` mm from the first slice to the last."""
    first, last = line.places[0], line.places[-1]
    return [first + step * spacing for step in range(int((last - first) / spacing + 1e-6) + 1)]


def _blends(line: _Line, places: Sequence[float]) -> list[Blend]:
    """Linear interpolation at ascending places."""
    blends: list[Blend] = []
    below = 0
    for place in places:
        while below + 2 < len(line.places) and line.places[below + 1] <= place:
            below += 1
        share = (place - line.places[below]) / (line.places[below + 1] - line.places[below])
        share = min(max(share, 0.0), 1.0)
        pair = ((line.slices[below], 1 - share), (line.slices[below + 1], share))
        blends.append(tuple(part for part in pair if part[1] > 1e-6))
    return blends
