"""The page on using a release says what the code does."""

import re
from pathlib import Path

import pytest

from medgan_core.config import PATIENT_TASKS
from medgan_core.errors import RefusedError
from medgan_core.gan.corruptions import BLUR, NOISE
from medgan_core.release.apply.dicom import Slices
from medgan_core.release.apply.marks import uid_of
from medgan_core.release.dicom.delivery import collect
from medgan_core.release.purposes import COMMANDS
from tests.medgan_core.data.dicom.making import FILES
from tests.medgan_core.data.making import config
from tests.medgan_core.release.apply.making import ORIGIN, bright, made, written

PAGE = (Path(__file__).resolve().parents[4] / "docs" / "use.md").read_text(encoding="utf-8")


def test_each_task_on_images_has_a_command() -> None:
    assert set(COMMANDS) == PATIENT_TASKS
    shown = re.findall(r"^\| `(\w+)` \| `medgan (\w+)` \|", PAGE, flags=re.MULTILINE)
    assert dict(shown) == COMMANDS


def test_strengths_are_those_of_training() -> None:
    for option, (low, high) in (("--noise", NOISE), ("--blur", BLUR)):
        (line,) = re.findall(rf"^- `{option}.*$", PAGE, flags=re.MULTILINE)
        assert line.endswith(f"{low} to {high}")


def test_nothing_of_a_patient_is_sent_as_synthetic(tmp_path: Path) -> None:
    case = Slices([("ct", FILES / "CT_small.dcm")], config("dicom", "x"))
    images = case.read().images
    for i, output in enumerate((made("restoration", images), made("segmentation", bright(images)))):
        (tmp_path / str(i)).mkdir()
        for name, body in written(case.files(output)).items():
            (tmp_path / str(i) / name).write_bytes(body)
        with pytest.raises(RefusedError, match="not marked SyntheticData"):
            collect(tmp_path / str(i))


def test_identifiers_tell_works_apart() -> None:
    assert uid_of(ORIGIN, "a") == uid_of(ORIGIN, "a") != uid_of(ORIGIN, "b")
