"""Frames of a file: which of them a study takes, and the header that holds for one."""

from collections.abc import Sequence
from typing import Any

from pydicom import Dataset

from medgan_core.data.dicom.reasons import QuarantineError, Refusal

MOST_FRAMES = 10_000
GROUPS = (
    ("PixelValueTransformationSequence", ("RescaleSlope", "RescaleIntercept")),
    ("FrameVOILUTSequence", ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence")),
    ("PixelMeasuresSequence", ("PixelSpacing", "SliceThickness")),
    ("PlanePositionSequence", ("ImagePositionPatient",)),
    ("PlaneOrientationSequence", ("ImageOrientationPatient",)),
)
"""Of an enhanced image (PS3.3 C.7.6.16): what each functional group says about pixels and geometry."""


def frame_count(dataset: Dataset) -> int:
    """How many frames a file says it has. Raises QuarantineError for more than anybody has."""
    count = int(dataset.get("NumberOfFrames") or 1)
    if not 1 <= count <= MOST_FRAMES:
        raise QuarantineError(Refusal.TOO_LARGE, "frames")
    return count


def taken(count: int, policy: str) -> tuple[int, ...]:
    """The frames, from 0, that a policy takes of `count`: "refuse", "first", "middle" or "all"."""
    if count == 1:
        return (0,)
    if policy == "refuse":
        raise QuarantineError(Refusal.FRAMES)
    return {"first": (0,), "middle": (count // 2,), "all": tuple(range(count))}[policy]


def of_frame(dataset: Dataset, frame: int) -> dict[str, Any]:
    """What the functional groups say for one frame, by keyword: the shared ones, and its own above them."""
    found: dict[str, Any] = {}
    shared = _items(dataset.get("SharedFunctionalGroupsSequence"))
    own = _items(dataset.get("PerFrameFunctionalGroupsSequence"))
    for item in (*shared[:1], *own[frame : frame + 1]):
        for sequence, keywords in GROUPS:
            for inner in _items(item.get(sequence))[:1]:
                found |= {keyword: inner.get(keyword) for keyword in keywords if keyword in inner}
    return found


def with_frame(dataset: Dataset, frame: int) -> Dataset:
    """The header in which a frame's own values stand where those of a single image do."""
    own = of_frame(dataset, frame)
    if not own:
        return dataset
    flat = Dataset(dataset)
    for keyword, value in own.items():
        setattr(flat, keyword, value)
    return flat


def _items(sequence: Any) -> Sequence[Dataset]:
    return sequence if isinstance(sequence, Sequence) and not isinstance(sequence, str | bytes) else ()
