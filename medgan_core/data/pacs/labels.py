"""What an image shows, from where a hospital has written it down: a table, an attribute, or a segmentation.

Each is a pair of functions of a header: `label_of` gives the label or None; `worth` gives the word against a
series by what a query told of it. An attribute's text never becomes a label: it is mapped to one.
"""

import io
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.errors import InvalidDicomError

from medgan_core.data.pacs.cohort import fits, text_of
from medgan_core.data.pacs.finding import NO_LABEL
from medgan_core.data.places import DAMAGE, Place
from medgan_core.data.tables import LABEL_COLUMNS, read_table
from medgan_core.errors import ConfigError, DataError

KEYS: Mapping[str, str] = {
    "patient": "PatientID",
    "study": "StudyInstanceUID",
    "series": "SeriesInstanceUID",
    "object": "SOPInstanceUID",
}
"""Columns of a table of labels, and the attributes that they hold."""
Mask = NDArray[np.float32]


class Labels(Protocol):
    """A way to know the label of an image."""

    def label_of(self, header: Dataset) -> str | None:
        """The label, None where there is none."""
        ...

    def worth(self, header: Dataset) -> str | None:
        """Why nothing in a series can have a label, by what a query told; None where something may."""
        ...


@dataclass(frozen=True)
class OneLabel:
    """Every image of a cohort has the same label."""

    label: str

    def label_of(self, header: Dataset) -> str | None:
        """The label."""
        return self.label

    def worth(self, header: Dataset) -> str | None:
        """Nothing."""
        return None


@dataclass(frozen=True)
class TableLabels:
    """A CSV with the column `label` and some of `patient`, `study`, `series`, `object`.

    A row speaks of all images that agree with it in every one of these columns that the table has.
    """

    columns: tuple[str, ...]
    labels: Mapping[tuple[str, ...], str] = field(repr=False)

    @classmethod
    def read(cls, place: Place, path: Path) -> "TableLabels":
        """Read it. DataError, naming the row, for a table without keys or with two labels for one."""
        table = read_table(place, path)
        columns = tuple(name for name in KEYS if name in table.columns)
        if not columns:
            raise DataError(f"{table.name} has none of the columns {', '.join(KEYS)}; expected one at least")
        keys = zip(*(table.column(name) for name in columns), strict=True)
        labels: dict[tuple[str, ...], str] = {}
        for row, (key, label) in enumerate(zip(keys, table.column(*LABEL_COLUMNS), strict=True)):
            if not label or not all(key):
                raise DataError(f"{table.where(row)}: a value is blank; expected {', '.join(columns)}, label")
            if labels.setdefault(key, label) != label:
                raise DataError(f"{table.where(row)}: another label than an earlier row of the same key")
        return cls(columns, labels)

    def label_of(self, header: Dataset) -> str | None:
        """That of the row which agrees."""
        return self.labels.get(tuple(text_of(header, KEYS[name]) for name in self.columns))

    def worth(self, header: Dataset) -> str | None:
        """Against a series where no row agrees with what was told."""
        told = {i: text for i, name in enumerate(self.columns) if (text := text_of(header, KEYS[name]))}
        if any(all(key[i] == text for i, text in told.items()) for key in self.labels):
            return None
        return NO_LABEL


@dataclass(frozen=True)
class TagLabels:
    """An attribute such as StudyDescription or "0008,1030"; the first pattern that fits names the label."""

    keyword: str
    patterns: Mapping[str, str]

    @classmethod
    def of(cls, tag: str, patterns: Mapping[str, str]) -> "TagLabels":
        """ConfigError for a tag that the standard's dictionary does not have, and without patterns."""
        keyword = _keyword(tag)
        if not keyword:
            raise ConfigError("source.label.tag", tag, 'a keyword or a tag such as "0008,1030"')
        if not patterns:
            raise ConfigError(
                "source.label.map", dict(patterns), "patterns of the attribute and their labels"
            )
        return cls(keyword, patterns)

    def label_of(self, header: Dataset) -> str | None:
        """That of the first pattern which fits."""
        return _first(self.patterns, text_of(header, self.keyword))

    def worth(self, header: Dataset) -> str | None:
        """Against a series whose text was told, and fits no pattern."""
        told = text_of(header, self.keyword)
        return NO_LABEL if told and _first(self.patterns, told) is None else None


class SegmentLabels:
    """DICOM SEG objects of the same study that refer to the image; read by highdicom (PS3.3 A.51, C.8.20).

    `patterns` are of segments' labels; where several segments lie on an image the first pattern counts.
    `without` is the label of an image of a segmented series on which none lies, "" for none. Masks are held,
    packed, from `add` until the study is forgotten. Several threads may use it, each on studies of its own.
    """

    def __init__(self, patterns: Mapping[str, str], without: str = "") -> None:
        if not patterns:
            raise ConfigError(
                "source.label.map", dict(patterns), "patterns of segments' labels and their labels"
            )
        self.patterns, self.without = dict(patterns), without
        self._studies: dict[str, _Segmented] = {}
        self._lock = threading.Lock()

    def holds(self, series: Dataset) -> bool:
        """Whether a series has segmentations."""
        return text_of(series, "Modality") == "SEG"

    def add(self, raw: bytes) -> None:
        """Read a segmentation. DataError for one that is damaged, or refers to no single images."""
        try:
            study, series, found = _read_segments(raw, self.patterns)
        except (DataError, InvalidDicomError, *DAMAGE) as error:
            raise DataError(f"a segmentation cannot be read ({type(error).__name__})") from None
        with self._lock:
            known = self._studies.setdefault(study, _Segmented())
        known.series |= series
        for uid, label, mask in found:
            known.add(uid, label, mask)

    def forget(self, study: str) -> None:
        """Let go of the masks of a study."""
        with self._lock:
            self._studies.pop(study, None)

    def label_of(self, header: Dataset) -> str | None:
        """The label of the first pattern with a segment on this image."""
        known = self._of(header)
        if known is None:
            return None
        labels = known.labels.get(text_of(header, "SOPInstanceUID"), set())
        first = next((label for label in self.patterns.values() if label in labels), None)
        return first if first is not None else self.without or None

    def mask_of(self, header: Dataset) -> Mask | None:
        """Where any of the segments lies: float32 [1, h, w], 0 or 1; None where the series has none."""
        known = self._of(header)
        if known is None:
            return None
        packed = known.masks.get(text_of(header, "SOPInstanceUID"))
        if packed is None:
            return np.zeros((1, int(header.Rows), int(header.Columns)), dtype=np.float32)
        return packed.opened().astype(np.float32)[None]

    def worth(self, header: Dataset) -> str | None:
        """Nothing: a query does not tell what is segmented."""
        return None

    def _of(self, header: Dataset) -> "_Segmented | None":
        with self._lock:
            known = self._studies.get(text_of(header, "StudyInstanceUID"))
        return known if known is not None and text_of(header, "SeriesInstanceUID") in known.series else None


@dataclass(frozen=True)
class _Packed:
    """A mask, a bit for each pixel and compressed: segmentations of a body are large and mostly empty."""

    shape: tuple[int, int]
    bits: bytes

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> "_Packed":
        return cls((mask.shape[0], mask.shape[1]), zlib.compress(np.packbits(mask).tobytes(), 1))

    def opened(self) -> NDArray[np.bool_]:
        bits = np.frombuffer(zlib.decompress(self.bits), dtype=np.uint8)
        return np.unpackbits(bits, count=self.shape[0] * self.shape[1]).reshape(self.shape).astype(np.bool_)


@dataclass
class _Segmented:
    """What is segmented in a study, by the UIDs of its images."""

    series: set[str] = field(default_factory=set)
    labels: dict[str, set[str]] = field(default_factory=dict)
    masks: dict[str, _Packed] = field(default_factory=dict)

    def add(self, uid: str, label: str, mask: NDArray[np.bool_]) -> None:
        self.labels.setdefault(uid, set()).add(label)
        before = self.masks.get(uid)
        self.masks[uid] = _Packed.of(mask if before is None else before.opened() | mask)


_Found = tuple[str, str, NDArray[np.bool_]]


def _read_segments(raw: bytes, patterns: Mapping[str, str]) -> tuple[str, set[str], list[_Found]]:
    """Study, series that are segmented, and (UID, label, mask) of every image and segment, unless empty."""
    import highdicom  # takes a second to import

    segmentation = highdicom.seg.segread(io.BytesIO(raw))
    sources = segmentation.get_source_image_uids()
    series = {str(uid) for _, uid, _ in sources}
    uids = [str(uid) for _, _, uid in sources]
    wanted = {
        number: label
        for number in segmentation.segment_numbers
        if (label := _first(patterns, str(segmentation.get_segment_description(number).segment_label)))
    }
    if not uids:
        raise DataError("it refers to no image")
    return str(segmentation.StudyInstanceUID), series, list(_masks(segmentation, uids, wanted))


def _masks(segmentation: Any, uids: Sequence[str], wanted: Mapping[int, str]) -> Iterator[_Found]:
    for uid in uids:
        if not wanted:
            return
        pixels = segmentation.get_pixels_by_source_instance(
            [uid],
            segment_numbers=list(wanted),
            assert_missing_frames_are_empty=True,
            ignore_spatial_locations=True,
        )[0]
        for position, label in enumerate(wanted.values()):
            mask = np.asarray(pixels[..., position]) > 0.5
            if mask.any():
                yield uid, label, mask


def _first(patterns: Mapping[str, str], told: str) -> str | None:
    return next((label for pattern, label in patterns.items() if fits(told, pattern)), None)


def _keyword(tag: str) -> str:
    parts = tag.strip("()").replace(" ", "").split(",")
    if len(parts) == 2:
        try:
            return keyword_for_tag((int(parts[0], 16), int(parts[1], 16)))
        except (ValueError, OverflowError):
            return ""
    return tag if tag_for_keyword(tag) is not None else ""
