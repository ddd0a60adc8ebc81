import os
import signal
from pathlib import Path

import numpy as np
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from medgan_core.data.dicom.pool import Pool
from medgan_core.data.dicom.reasons import Refusal
from medgan_core.data.dicom.sources import Source
from medgan_core.data.dicom.work import Settings, Task, answer
from tests.medgan_core.data.dicom.making import FILES, sample, saved

CT = FILES / "CT_small.dcm"


def _endless_header() -> bytes:
    """An ImageType of ten million values, which take longer to take apart than a header may."""
    dataset = sample("CT_small.dcm", ImageType=None)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    raw = saved(dataset)
    where = raw.index(b"\x08\x00\x16\x00")
    value = b"A\\" * 10_000_000
    return raw[:where] + b"\x08\x00\x08\x00" + len(value).to_bytes(4, "little") + value + raw[where:]


def _bomb() -> bytes:
    """Two GiB of zeros that take two MiB on the way."""
    dataset = sample("CT_small.dcm")
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.Rows, dataset.Columns = 5000, 5000
    dataset.NumberOfFrames = 10
    dataset.PixelData = bytes(5000 * 5000 * 2 * 10)
    return saved(dataset)


def test_what_hangs_crashes_or_swells_ends_one_task_and_no_other() -> None:
    tasks = [Task(CT, pixels=True, frames=(0,)) for _ in range(6)]
    hostile = {
        1: Task(_endless_header(), header=True),
        3: Task(_bomb(), header=True, pixels=True, frames=(0,)),
    }
    for place, task in hostile.items():
        tasks[place] = task
    with Pool(Settings(frames="all", side=32), workers=2) as pool:
        found = dict(pool.run(tasks))
        os.kill(pool._workers[0].process.pid, signal.SIGKILL)
        again = dict(pool.run([Task(CT, header=True)] * 4))
    assert found[1].refusal is Refusal.TIMEOUT
    assert found[3].refusal in (Refusal.TOO_LARGE, Refusal.CRASH, Refusal.TIMEOUT)  # whichever limit is first
    assert [found[i].refusal for i in (0, 2, 4, 5)] == [None] * 4
    assert [again[i].refusal for i in range(4)].count(Refusal.CRASH) <= 1


def test_a_worker_answers_as_this_process_would(tmp_path: Path) -> None:
    settings = Settings(frames="all", side=32)
    sources: list[Source] = [CT, CT.read_bytes(), FILES / "SC_rgb_rle_2frame.dcm", tmp_path / "gone"]
    tasks = [Task(s, header=True, dataset=True, pixels=True, digest=True, frames=(0,)) for s in sources]
    with Pool(settings, workers=1) as pool:
        there = dict(pool.run(tasks))
    for number, task in enumerate(tasks):
        here = answer(task, settings)
        assert (there[number].refusal, there[number].header) == (here.refusal, here.header)
        assert (there[number].dataset, there[number].digests) == (here.dataset, here.digests)
        assert all(np.array_equal(a, b) for a, b in zip(there[number].images, here.images, strict=True))
