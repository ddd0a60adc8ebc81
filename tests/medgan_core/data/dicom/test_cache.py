import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from medgan_core.data.dicom import folder as reading
from medgan_core.data.dicom.cache import SUFFIX, Cache, identity
from medgan_core.data.dicom.folder import read_dicom_folder
from medgan_core.data.dicom.report_card import ReportCard
from medgan_core.data.dicom.terms import Ingested
from medgan_core.data.places import locate
from medgan_core.patients import Pseudonym
from tests.medgan_core.data.dicom.making import TERMS, keyed, saved, slices
from tests.medgan_core.data.making import config, write_csv

KEY = bytes(range(32))
REPORT = ReportCard(3, 2, 1, {"text": 1}, {"order": 1}, {}, (("ab", "text"),), True)


def _found(count: int = 40, side: int = 64) -> Ingested:
    images = torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(1))
    patients = tuple(keyed(f"p{i}") for i in range(count))
    return Ingested(images, ("a", "b") * (count // 2), patients, (True,) * count, patients, REPORT)


@pytest.mark.parametrize("key", [None, KEY])
def test_what_is_kept_comes_back(tmp_path: Path, key: bytes | None) -> None:
    cache, kept = Cache(tmp_path / "cache", key), _found()
    cache.keep("one", kept)
    found = cache.load("one")
    assert found is not None
    assert torch.equal(found.images, kept.images)
    assert replace(found, images=kept.images).__dict__ == kept.__dict__
    assert all(isinstance(patient, Pseudonym) for patient in found.patients)
    (path,) = (tmp_path / "cache").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert cache.load("another") is None


def test_with_a_key_nothing_is_readable_and_nothing_can_be_changed(tmp_path: Path) -> None:
    cache, kept = Cache(tmp_path, KEY), _found(100)
    cache.keep("one", kept)
    (path,) = tmp_path.glob(f"*{SUFFIX}")
    raw = path.read_bytes()
    assert kept.patients[0].encode() not in raw
    assert kept.images[3].numpy().tobytes() not in raw
    assert Cache(tmp_path, bytes(32)).load("one") is None
    assert Cache(tmp_path).load("one") is None
    chunk = (1 << 20) + 16
    begin = raw.index(b"\n") + 1
    changed = [
        raw[:-1] + bytes([raw[-1] ^ 1]),
        raw[:-40],
        raw[: begin + chunk],
        raw[:begin] + raw[begin + chunk :],
    ]
    for damaged in (*changed, raw.replace(b"40", b"39", 1), b""):
        path.write_bytes(damaged)
        assert cache.load("one") is None


def test_a_plain_file_that_is_cut_off_is_not_used(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.keep("one", _found())
    (path,) = tmp_path.glob(f"*{SUFFIX}")
    path.write_bytes(path.read_bytes()[:-1])
    assert cache.load("one") is None


def test_the_name_goes_by_content_and_settings(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    data = config("dicom", "x")

    def name(**changes: object) -> str:
        return identity([("a", path, "")], data.model_copy(update=changes), TERMS)

    first = name()
    assert name(window="bone") != first
    assert name(image_size=64) != first
    assert identity([("a", path, "someone")], data, TERMS) != first
    assert name() == first
    path.write_bytes(b"xy")
    assert name() != first


def test_a_second_start_reads_no_file_and_finds_the_same_patients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i, dataset in enumerate(slices(3)):
        (tmp_path / f"Doe_John_{i}.dcm").write_bytes(saved(dataset))
    write_csv(
        tmp_path / "manifest.csv", [["file", "label"], *[[f"Doe_John_{i}.dcm", i % 2] for i in range(3)]]
    )
    terms = replace(TERMS, cache=tmp_path / "cache")
    place = locate(tmp_path.parent, tmp_path.name)
    first = read_dicom_folder(config("dicom", "x"), place, terms)
    monkeypatch.setattr(reading, "ingest", None)
    second = read_dicom_folder(config("dicom", "x"), place, terms)
    assert torch.equal(first.images, second.images)
    assert (first.labels, first.patients) == (second.labels, second.patients)
    assert set(second.patients) == {keyed("1CT1")}
    (path,) = (tmp_path / "cache").iterdir()
    raw = path.read_bytes()
    assert not any(word in raw for word in (b"1CT1", b"Doe", b"CompressedSamples", b"1.3.6.1.4"))
    assert json.loads(raw.split(b"\n", 1)[0])["shape"] == [3, 1, 28, 28]
