"""Real DICOM files that pydicom bundles, changed or damaged on purpose, and one way to read them."""

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.data
from numpy.typing import NDArray
from pydicom import Dataset

from medgan_core.data.dicom.ingest import ingest
from medgan_core.data.dicom.reasons import Refusal
from medgan_core.data.dicom.terms import Ingested, Terms
from medgan_core.data.dicom.work import Answer, Settings, Task, answer
from medgan_core.patients import Pseudonym
from tests.medgan_core.data.making import config

FILES = Path(str(pydicom.data.__file__)).parent / "test_files"
KEY = b"k" * 32


def keyed(text: str) -> Pseudonym:
    return Pseudonym.of(KEY, text)


TERMS = Terms(pseudonym=keyed)


def sample(name: str, **attributes: Any) -> Dataset:
    """A bundled file, with other attributes; None deletes one."""
    dataset = pydicom.dcmread(FILES / name)
    for attribute, value in attributes.items():
        if value is None:
            del dataset[attribute]
        else:
            setattr(dataset, attribute, value)
    return dataset


def saved(dataset: Dataset) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def asked(source: Path | bytes, *frames: int, policy: str = "all", **settings: Any) -> Answer:
    """Header and pixels of a file, read in this process."""
    task = Task(source, header=True, pixels=True, frames=frames or (0,))
    return answer(task, Settings(frames=policy, **settings))


def pixels(source: Path | bytes, *frames: int, **settings: Any) -> NDArray[np.float32]:
    found = asked(source, *frames, **settings)
    assert found.refusal is None, (found.refusal, found.detail)
    return found.images[0]


def refused(source: Path | bytes, **settings: Any) -> Refusal | None:
    return asked(source, **settings).refusal


def slices(count: int, name: str = "CT_small.dcm", step: float = 2.0, **attributes: Any) -> list[Dataset]:
    """A series of slices `step` mm apart, with values of their own."""
    made = []
    for i in range(count):
        dataset = sample(name, **attributes)
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, float(z) + i * step]
        dataset.InstanceNumber = i + 1
        dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID}.{i}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.PixelData = (dataset.pixel_array // 2 + 100 * i).astype(dataset.pixel_array.dtype).tobytes()
        made.append(dataset)
    return made


def read(
    sources: Iterable[tuple[str, Path | bytes]], terms: Terms = TERMS, **settings: Any
) -> tuple[Ingested, dict[str, str]]:
    """What ingest makes of sources, and the reason of each that is in the quarantine."""
    listed = list(sources)
    rules: dict[str, Callable[[Dataset], str | None]] = {
        name: settings.pop(name) for name in ("admit", "label_of") if name in settings
    }
    found = ingest(listed, config("dicom", "x", **{"image_size": 32} | settings), terms, workers=1, **rules)  # type: ignore[arg-type]
    names = {terms.file(name): name for name, _ in listed}
    return found, {names[key]: code for key, code in found.report.quarantine}
