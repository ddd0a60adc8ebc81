"""DICOM comes back as DICOM: the same patient and place, references to its source, no error of its own."""

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
import torch
from pydicom import Dataset

from medgan_core.data_config import DataConfig
from medgan_core.errors import DataError
from medgan_core.release.apply.dicom import Slices
from tests.medgan_core.data.dicom.making import FILES, sample
from tests.medgan_core.data.making import config, shared
from tests.medgan_core.release.apply.making import bright, dataset, made, written
from tests.medgan_core.release.dicom.conftest import cohort
from tests.medgan_core.release.dicom.making import read
from tests.medgan_core.release.dicom.programs import errors, needs

__all__ = ["cohort"]
DATA: DataConfig = config("dicom", "x", window="soft_tissue")
GREY = ("CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "MR_small_RLE.dcm")
ALL = (*GREY, "SC_rgb_rle_2frame.dcm", "SC_rgb_rle_16bit.dcm", "examples_rgb_color.dcm")


def case_of(*paths: Path, data: DataConfig = DATA) -> Slices:
    return Slices([(path.name, path) for path in paths], data)


@pytest.mark.parametrize("name", ALL)
def test_what_is_not_changed_comes_back_bit_by_bit(name: str) -> None:
    case = case_of(FILES / name)
    pictures = case.read()
    ((_, body),) = written(case.files(made("restoration", pictures.images))).items()
    source, back = pydicom.dcmread(FILES / name), dataset(body)
    np.testing.assert_array_equal(back.pixel_array, source.pixel_array)
    for keyword in ("BitsAllocated", "BitsStored", "PixelRepresentation", "Rows", "Columns", "SOPClassUID"):
        assert back[keyword].value == source[keyword].value
    assert len(pictures.images) == int(source.get("NumberOfFrames") or 1)


def test_a_derived_image_says_whose_it_is_and_what_it_is_of() -> None:
    source = sample("CT_small.dcm")
    case = case_of(FILES / "CT_small.dcm")
    ((name, body),) = written(case.files(made("restoration", case.read().images))).items()
    back = dataset(body)
    assert name == "CT_small.dcm"
    assert list(back.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
    for keyword in (
        "PatientID",
        "PatientName",
        "StudyInstanceUID",
        "FrameOfReferenceUID",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "RescaleIntercept",
    ):
        assert back[keyword].value == source[keyword].value
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber"):
        assert back[keyword].value != source[keyword].value
    assert back.file_meta.MediaStorageSOPInstanceUID == back.SOPInstanceUID
    (reference,) = back.SourceImageSequence
    assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    equipment = back.ContributingEquipmentSequence[-1]
    assert (equipment.Manufacturer, equipment.DeviceSerialNumber) == ("MedGAN", "5d" * 32)
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Processing Equipment"
    assert "restored, noise 0.1 by the network of study tiny" in back.DerivationDescription
    assert "SyntheticData" not in back
    again = written(case.files(made("restoration", case.read().images)))[name]
    assert dataset(again).SOPInstanceUID == back.SOPInstanceUID


def test_what_is_changed_is_changed_in_stored_values() -> None:
    """A tenth of a window of 400 HU brighter, and values beyond the window as they were."""
    case = case_of(FILES / "CT_small.dcm")
    images = case.read().images
    ((_, body),) = written(case.files(made("restoration", (images + 0.2).clamp(-1, 1)))).items()
    source = sample("CT_small.dcm").pixel_array.astype(int)
    inside = ((images[0, 0] > -0.99) & (images[0, 0] < 0.79)).numpy()
    np.testing.assert_allclose((dataset(body).pixel_array - source)[inside], 40, atol=1.01)
    above = (images[0, 0] == 1).numpy()
    np.testing.assert_array_equal(dataset(body).pixel_array[above], source[above])


def test_padding_around_the_body_stays(tmp_path: Path) -> None:
    one = sample("CT_small.dcm", PixelPaddingValue=-2000)
    stored = one.pixel_array.copy()
    stored[:20] = -2000
    one.PixelData = stored.tobytes()
    one.save_as(tmp_path / "padded.dcm")
    case = case_of(tmp_path / "padded.dcm")
    images = (case.read().images + 0.5).clamp(-1, 1)
    for factor in (1, 2):
        grown = images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        ((_, body),) = written(case.files(made("restoration", grown, factor=factor))).items()
        assert (dataset(body).pixel_array[: 20 * factor] == -2000).all()


def test_twice_the_resolution_lies_in_the_same_place() -> None:
    """The middle of an old pixel is the middle of its four new ones (PS3.3 C.7.6.2.1.1)."""
    source = sample("CT_small.dcm")
    case = case_of(FILES / "CT_small.dcm")
    images = case.read().images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    ((_, body),) = written(case.files(made("restoration", images, factor=2))).items()
    back = dataset(body)
    assert (back.Rows, back.Columns) == (2 * source.Rows, 2 * source.Columns)
    np.testing.assert_allclose(back.PixelSpacing, np.array(source.PixelSpacing) / 2)

    def place(of: Dataset, row: float, column: float) -> Any:
        rows, columns = of.PixelSpacing
        cosines = np.array(of.ImageOrientationPatient, float)
        return (
            np.array(of.ImagePositionPatient, float)
            + cosines[:3] * columns * column
            + cosines[3:] * rows * row
        )

    np.testing.assert_allclose(place(back, 10.5, 20.5), place(source, 5, 10), atol=1e-3)


def extracted(archive: str, folder: Path, part: str, count: int = 1) -> list[Path]:
    """Some files of a real set."""
    with zipfile.ZipFile(shared("dicom_samples") / "dicom_samples" / archive) as opened:
        names = sorted(n for n in opened.namelist() if not n.endswith(("/", "LICENSE")) and part in n)
        return [Path(opened.extract(name, folder)) for name in names[:count]]


def test_frames_that_grow_keep_their_places(tmp_path: Path) -> None:
    (path,) = extracted("pydicom_data_selected.zip", tmp_path, "eCT_Supplemental")
    case = case_of(path)
    images = case.read().images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    ((_, body),) = written(case.files(made("restoration", images, factor=2))).items()
    source, back = pydicom.dcmread(path), dataset(body)
    assert list(back.ImageType)[:2] == ["DERIVED", "PRIMARY"]
    old, new = source.SharedFunctionalGroupsSequence[0], back.SharedFunctionalGroupsSequence[0]
    spacing = np.array(old.PixelMeasuresSequence[0].PixelSpacing, float)
    np.testing.assert_allclose(new.PixelMeasuresSequence[0].PixelSpacing, spacing / 2, rtol=1e-6)
    for before, after in zip(
        source.PerFrameFunctionalGroupsSequence, back.PerFrameFunctionalGroupsSequence, strict=True
    ):
        shift = np.array(after.PlanePositionSequence[0].ImagePositionPatient) - np.array(
            before.PlanePositionSequence[0].ImagePositionPatient
        )
        np.testing.assert_allclose(np.linalg.norm(shift), np.linalg.norm(spacing) / 4, rtol=1e-4)


def test_masks_of_a_real_series_are_one_segmentation(tmp_path: Path) -> None:
    paths = extracted("ct_head_ge.zip", tmp_path, "", 4)
    case = case_of(*paths)
    masks = bright(case.read().images)
    ((name, body),) = written(case.files(made("segmentation", masks))).items()
    assert name.endswith("_mask.dcm")
    (tmp_path / "seg.dcm").write_bytes(body)
    found = highdicom.seg.segread(tmp_path / "seg.dcm")
    sources = [pydicom.dcmread(path) for path in paths]
    assert found.SegmentSequence[0].SegmentLabel == "lung"
    assert (found.PatientID, found.StudyInstanceUID) == (sources[0].PatientID, sources[0].StudyInstanceUID)
    pixels = found.get_pixels_by_source_instance([s.SOPInstanceUID for s in sources], combine_segments=True)
    np.testing.assert_array_equal(pixels, (masks[:, 0] > 0).numpy())


def test_masks_of_every_modality(cohort: Path) -> None:
    for one in read(cohort):
        case = case_of(Path(str(one.filename)))
        ((_, body),) = written(case.files(made("segmentation", bright(case.read().images)))).items()
        assert dataset(body).Modality == "SEG"
        (reference,) = dataset(body).ReferencedSeriesSequence[0].ReferencedInstanceSequence
        assert reference.ReferencedSOPInstanceUID == one.SOPInstanceUID


def test_an_empty_mask_is_a_segmentation_too() -> None:
    case = case_of(FILES / "CT_small.dcm")
    empty = torch.full_like(case.read().images, -1.0)
    ((_, body),) = written(case.files(made("segmentation", empty))).items()
    assert not dataset(body).pixel_array.any()


def test_a_heat_map_is_a_picture_that_every_viewer_shows() -> None:
    case = case_of(FILES / "SC_rgb_rle_2frame.dcm")
    heat = torch.full((2, 1, 100, 100), 0.5)
    found = written(
        case.files(
            made("anomaly", heat[..., : case.read().images.shape[3]], scores=torch.tensor([0.25, 0.75]))
        )
    )
    assert list(found) == ["SC_rgb_rle_2frame_heat0001.dcm", "SC_rgb_rle_2frame_heat0002.dcm"]
    second = dataset(found["SC_rgb_rle_2frame_heat0002.dcm"])
    assert second.SOPClassUID.name == "Secondary Capture Image Storage"
    assert second.PhotometricInterpretation == "RGB"
    assert second.SourceImageSequence[0].ReferencedFrameNumber == 2
    assert second.DerivationDescription.endswith("score 0.750")


def test_a_network_of_volumes_sees_axial_slices_alone(tmp_path: Path) -> None:
    data = config("nifti", "x", modalities=["T1"])
    sample("MR_small.dcm", ImageOrientationPatient=[0, 1, 0, 0, 0, -1]).save_as(tmp_path / "sagittal.dcm")
    with pytest.raises(DataError, match="no axial slice"):
        case_of(tmp_path / "sagittal.dcm", data=data).read()
    paths = extracted("ct_head_ge.zip", tmp_path, "", 3)
    images = case_of(*paths, data=data).read().images
    assert (float(images.min()), float(images.max())) == (-1, 1)


def test_files_that_cannot_be_one_case() -> None:
    with pytest.raises(DataError, match="differ in size"):
        case_of(FILES / "CT_small.dcm", FILES / "MR_small.dcm").read()


def test_a_palette_has_no_colours_but_its_own() -> None:
    case = case_of(FILES / "examples_palette.dcm")
    pictures = case.read()
    with pytest.raises(DataError, match="those of a palette"):
        written(case.files(made("restoration", pictures.images)))


def complaints_of(folder: Path, bodies: Sequence[bytes]) -> list[str]:
    found = []
    for i, body in enumerate(bodies):
        path = folder / f"{i}.dcm"
        path.write_bytes(body)
        found += errors(path)
    return found


@needs("dciodvfy")
def test_a_validator_finds_no_new_error(tmp_path: Path, cohort: Path) -> None:
    """Of classic images, whose sources have none of their own."""
    sources = [Path(str(one.filename)) for one in read(cohort)]
    shutil.copy(FILES / "CT_small.dcm", tmp_path / "ct.dcm")
    known = {line for path in (*sources, tmp_path / "ct.dcm") for line in errors(path)}
    for path in (*sources, tmp_path / "ct.dcm"):
        case = case_of(path)
        images = case.read().images
        outputs: list[bytes] = []
        for output in (
            made("restoration", images),
            made("translation", images),
            made("segmentation", bright(images)),
            made("anomaly", bright(images), scores=torch.zeros(len(images))),
        ):
            outputs += written(case.files(output)).values()
        assert set(complaints_of(tmp_path, outputs)) <= known, path
