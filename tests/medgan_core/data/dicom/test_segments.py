import os
import time
import zipfile
from pathlib import Path

from medgan_core.data.dicom.segments import segmentations, stamps
from tests.medgan_core.data.dicom.making import FILES
from tests.medgan_core.data.pacs.test_labels import SAMPLES, needs_samples


@needs_samples
def test_segmentations_are_found_among_all_kinds_of_files(tmp_path: Path) -> None:
    for name in ("CT_small.dcm", "rtdose.dcm", "rtplan.dcm", "reportsi.dcm", "test-SR.dcm"):
        (tmp_path / name).write_bytes((FILES / name).read_bytes())
    (tmp_path / "noise").write_bytes(b"no DICOM")
    with zipfile.ZipFile(SAMPLES) as archive:
        names = [name for name in archive.namelist() if name.endswith(("liver.dcm", "sr-example/seg.dcm"))]
        contents = [archive.read(name) for name in names]
    (tmp_path / "seg").write_bytes(contents[0])
    with zipfile.ZipFile(tmp_path / "deep.zip", "w") as archive:
        archive.writestr("a/b", contents[1])
    assert sorted(segmentations(tmp_path)) == sorted(contents)


def test_stamps_tell_a_folder_s_states_apart(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    first = stamps(tmp_path)
    assert stamps(tmp_path) == first
    (tmp_path / "b").write_bytes(b"x")
    second = stamps(tmp_path)
    os.utime(tmp_path / "a", (time.time(), 1.0))
    assert len({first, second, stamps(tmp_path)}) == 3
