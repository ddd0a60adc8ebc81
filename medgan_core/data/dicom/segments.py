"""Segmentations (DICOM SEG, PS3.3 A.51) among the files of a folder: found by workers, read by who asks."""

import json
from collections.abc import Iterator
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.uid import SegmentationStorage

from medgan_core.data.dicom.pool import Pool
from medgan_core.data.dicom.reasons import QuarantineError, Refusal
from medgan_core.data.dicom.sources import LARGEST_MEMBER, Source, find, open_source, stamp
from medgan_core.data.dicom.work import Settings, Task


def segmentations(place: Path) -> Iterator[bytes]:
    """The bytes of each segmentation below a folder, of 256 MiB at most, that can be opened."""
    with Pool(Settings()) as pool:
        files = [source for _, source in find(place)]
        headers = pool.run(Task(source, header=True) for source in files)
        # whatever is of no class that is read as an image is looked at more closely
        others = [files[i] for i, answer in headers if answer.refusal is Refusal.SOP_CLASS]
        segmented = [
            others[i]
            for i, answer in pool.run(Task(source, dataset=True) for source in others)
            if answer.refusal is None and _is_segmentation(answer.dataset)
        ]
    for source in segmented:
        raw = _read(source)
        if raw is not None:
            yield raw


def stamps(place: Path) -> str:
    """A digest of names, sizes and times of change of all files below a folder."""
    found = sha256()
    for name, source in find(place):
        found.update(json.dumps([name, *stamp(source)]).encode())
    return found.hexdigest()


def _is_segmentation(dataset: bytes) -> bool:
    return bool(pydicom.dcmread(BytesIO(dataset), force=True).get("SOPClassUID") == SegmentationStorage)


def _read(source: Source) -> bytes | None:
    try:
        stream, size = open_source(source)
    except QuarantineError:
        return None
    with stream:
        return stream.read() if size <= LARGEST_MEMBER else None
