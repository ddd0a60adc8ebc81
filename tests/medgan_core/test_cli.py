import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient

from medgan_core import cli
from medgan_core.release.files import write_manifest
from tests.medgan_core.release.conftest import _built, _built_public, folder, public_folder
from tests.orthanc import needs_orthanc, orthanc

__all__ = ["_built", "_built_public", "folder", "public_folder"]


class Said:
    """How `medgan` ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


class Medgan:
    """`medgan` in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *arguments: object) -> Said:
        self.monkeypatch.setattr(sys, "argv", ["medgan", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert isinstance(caught.value.code, int)
        return Said(caught.value.code, *self.capsys.readouterr())


@pytest.fixture
def medgan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Medgan:
    return Medgan(monkeypatch, capsys)


def test_generate_npz_by_the_cards_proportions(medgan: Medgan, folder: Path, tmp_path: Path) -> None:
    said = medgan("generate", folder, "--n", 10, "--seed", 3, "--out", tmp_path / "a.npz")
    assert said.code == 0
    assert "10 images of tiny with seed 3" in said.out
    assert said.err == ""
    with np.load(tmp_path / "a.npz", allow_pickle=False) as read:
        assert read["images"].shape == (10, 28, 28)
        assert np.bincount(read["labels"]).tolist() == [3, 7]
    medgan("generate", folder, "--n", 10, "--seed", 3, "--out", tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_generate_png_by_labels(medgan: Medgan, folder: Path, tmp_path: Path) -> None:
    labels = "normal=3,pneumonia=2"
    said = medgan("generate", folder, "--labels", labels, "--format", "png", "--out", tmp_path / "set")
    assert said.code == 0
    assert len(list((tmp_path / "set" / "normal").iterdir())) == 3
    assert len(list((tmp_path / "set" / "pneumonia").iterdir())) == 2
    agreed = medgan("generate", folder, "--n", 5, "--labels", labels, "--out", tmp_path / "x.npz")
    assert agreed.code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--n", "0"], "--n 0"),
        (["--n", "-4"], "--n -4"),
        (["--n", "x"], "--n"),
        (["--n", "5", "--seed", "-1"], "--seed"),
        ([], "how many images"),
        (["--labels", "cat=3"], "unknown class 'cat': the release has normal, pneumonia"),
        (["--labels", "normal"], "--labels 'normal'"),
        (["--labels", "normal=0"], "0 images"),
        (["--n", "4", "--labels", "normal=3"], "--n 4, but --labels asks for 3"),
        (["--n", "4", "--format", "gif"], "--format"),
    ],
)
def test_bad_requests_end_with_two(
    medgan: Medgan, folder: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    said = medgan("generate", folder, *arguments, "--out", tmp_path / "x")
    assert said.code == 2
    assert says in said.err
    assert not (tmp_path / "x").exists()


def test_generate_dicom_and_one_file_of_it_again(medgan: Medgan, folder: Path, tmp_path: Path) -> None:
    options = ["--format", "dicom", "--modality", "dx", "--seed", 4]
    said = medgan("generate", folder, "--n", 10, *options, "--out", tmp_path / "all")
    assert (said.code, said.err) == (0, "")
    assert "10 images of tiny with seed 4" in said.out
    assert (tmp_path / "all" / "DICOMDIR").is_file()
    medgan("generate", folder, "--labels", "pneumonia=1", "--first", 7, *options, "--out", tmp_path / "one")
    alone = (tmp_path / "one/PT000000/ST000000/SE000000/IM000000").read_bytes()
    assert alone == (tmp_path / "all/PT000007/ST000000/SE000000/IM000000").read_bytes()


def test_dicom_of_a_release_without_privacy_ends_with_three(
    medgan: Medgan, public_folder: Path, tmp_path: Path
) -> None:
    said = medgan("generate", public_folder, "--n", 2, "--format", "dicom", "--out", tmp_path / "x")
    assert said.code == 3
    assert "NOT PRIVATE" in said.err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--modality", "CT"], "are for --format dicom"),
        (["--body-part", "HEAD"], "are for --format dicom"),
        (["--format", "dicom", "--modality", "US"], "--modality"),
        (["--format", "dicom", "--modality", "CT"], "the release learned from DX"),
        (["--format", "dicom", "--body-part", "nowhere"], "body part 'NOWHERE'"),
        (["--format", "dicom", "--modality", "SC", "--body-part", "hand"], "laterality L or R"),
        (["--format", "dicom", "--spacing", "-1"], "spacing -1.0 mm"),
    ],
)
def test_bad_requests_for_dicom_end_with_two(
    medgan: Medgan, folder: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    said = medgan("generate", folder, "--n", 2, *arguments, "--out", tmp_path / "x")
    assert said.code == 2
    assert says in said.err
    assert not (tmp_path / "x").exists()


@needs_orthanc
def test_send_a_folder_and_a_release(medgan: Medgan, folder: Path, tmp_path: Path) -> None:
    medgan("generate", folder, "--n", 2, "--format", "dicom", "--out", tmp_path / "x")
    with orthanc(tmp_path / "orthanc") as server:
        said = medgan("send", tmp_path / "x", "--to", server.url)
        assert (said.code, said.err) == (0, "")
        assert said.out == "2 files stored\n"
        said = medgan("send", folder, "--n", 3, "--seed", 8, "--to", f"ORTHANC@127.0.0.1:{server.dicom}")
        assert (said.code, said.err) == (0, "")
        assert said.out == "3 files stored\ndrawn with seed 8\n"
        assert len(DICOMwebClient(server.url).search_for_studies()) == 5
        failed = medgan("send", tmp_path / "x", "--to", f"{server.url}/nowhere")
        assert failed.code == 1
        assert "2 of 2 files were not stored" in failed.err
        assert "PT000000/ST000000/SE000000/IM000000: the server answers 404" in failed.err


def test_send_refuses_what_is_not_marked(medgan: Medgan, folder: Path, tmp_path: Path) -> None:
    medgan("generate", folder, "--n", 2, "--format", "dicom", "--out", tmp_path / "x")
    path = tmp_path / "x/PT000001/ST000000/SE000000/IM000000"
    dataset = pydicom.dcmread(path)
    del dataset.SyntheticData
    dataset.save_as(path)
    said = medgan("send", tmp_path / "x", "--to", "http://127.0.0.1:9/dicom-web")
    assert said.code == 3
    assert "PT000001/ST000000/SE000000/IM000000 is not marked SyntheticData = YES" in said.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--to", "PACS"], "--to PACS: expected a DICOMweb address, or AET@HOST:PORT"),
        (["--to", "ftp://x/y"], "--to x"),
        (["--to", "PACS@host:104", "--credentials", "x"], "--credentials and --ca are for DICOMweb"),
        (["--to", "PACS@host:104", "--n", "2"], "is no release"),
        (["--to", "https://pacs/dicom-web", "--credentials", "nowhere"], "credentials nowhere"),
    ],
)
def test_what_cannot_be_sent_ends_with_two(
    medgan: Medgan, tmp_path: Path, arguments: list[str], says: str
) -> None:
    said = medgan("send", tmp_path, *arguments)
    assert said.code == 2
    assert says in said.err


@pytest.mark.parametrize("command", ["generate", "verify", "info"])
def test_what_is_no_release_ends_with_two(medgan: Medgan, tmp_path: Path, command: str) -> None:
    more = ["--n", 1, "--out", tmp_path / "x"] if command == "generate" else []
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        said = medgan(command, path, *more)
        assert said.code == 2
        assert said.err.startswith("error: RELEASE")


@pytest.mark.parametrize("command", ["generate", "verify", "info"])
def test_a_tampered_release_ends_with_one(medgan: Medgan, folder: Path, command: str) -> None:
    more = ["--n", 1, "--out", folder.parent / "x"] if command == "generate" else []
    with (folder / "card.json").open("a") as stream:
        stream.write(" ")
    said = medgan(command, folder, *more)
    assert said.code == 1
    assert said.err.startswith("error: card.json was changed")


def test_verify_prints_what_it_checked(medgan: Medgan, folder: Path) -> None:
    said = medgan("verify", folder)
    assert said.code == 0
    assert "ok  manifest.json" in said.out
    assert said.out.splitlines()[-1].startswith("integrity only: epsilon ")
    (folder / "card.md").write_text("trust me")
    write_manifest(folder)
    assert medgan("verify", folder).err.startswith("error: card.md")


def test_info_prints_the_card(medgan: Medgan, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = medgan("info", folder).out
    assert told.startswith("# Generator of synthetic images")
    assert (folder / "card.md").read_text().endswith(told)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    said = medgan("info", folder)
    assert "Whose data" in said.out
    assert "##" not in said.out


def test_not_private_is_said_everywhere(medgan: Medgan, public_folder: Path, tmp_path: Path) -> None:
    assert "NOT PRIVATE" in medgan("verify", public_folder).out
    assert "NOT PRIVATE" in medgan("info", public_folder).out.splitlines()[0]
    assert "NOT PRIVATE" in medgan("generate", public_folder, "--n", 2, "--out", tmp_path / "x").err


def test_version_and_help(medgan: Medgan) -> None:
    assert medgan("--version").out.startswith("medgan ")
    assert medgan("--help").code == 0


def test_the_command_line_loads_no_torch_until_it_must() -> None:
    code = "import sys, medgan_core.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_as_a_process(folder: Path, tmp_path: Path) -> None:
    def medgan(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from medgan_core.cli import main; main()", *map(str, arguments)]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    done = medgan("generate", folder, "--n", 2, "--out", tmp_path / "x.npz")
    assert (done.returncode, done.stderr) == (0, "")
    assert medgan("generate", folder, "--n", 0, "--out", tmp_path / "y.npz").returncode == 2
    (folder / "generator.json").unlink()
    failed = medgan("verify", folder)
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: generator.json is missing")
    assert "Traceback" not in failed.stderr
