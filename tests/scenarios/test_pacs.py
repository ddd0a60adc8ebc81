"""Three hospitals pull their cohorts from an archive, train together and release; a pull is killed."""

import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pydicom
import pytest

from client.folder import SiteFolder
from client.node import free_port
from client.pulled import current_objects
from client.pulling import look
from medgan_core.config import PhantomsConfig
from medgan_core.data.pacs.dicomweb import DicomWeb
from medgan_core.errors import InputError
from medgan_core.release.bundle import Release
from medgan_core.release.verify import verify_release
from medgan_core.seeds import Seeds
from simulations.federation import Stage, approve, command, ended_by_signals, finish, propose, running
from simulations.phantoms import CLASSES, make_phantoms
from tests.client.sites import make_site
from tests.client.test_pulling import connect, pull
from tests.medgan_core.data.pacs.objects import image, raw
from tests.orthanc import TITLE, Orthanc, needs_orthanc, orthanc
from tests.scenarios.federating import ROOT, settled
from tests.simulations.making import tiny_study

pytestmark = [pytest.mark.scenario, needs_orthanc]
SITES = {"site-1": "CT", "site-2": "DX", "site-3": "DX"}
PATIENTS = 80  # 48, 80 and 112 at the three sites: so many that some are held out under any key
POLICY = """
[policy]
epsilon = 50.0
epsilon_per_study = 50.0
least_noise_multiplier = 0.0
least_patients = 10
least_held_out = 1
"""


def say(line: str) -> None:
    print(line)


@pytest.fixture
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(tmp_path_factory.mktemp("p"), tuple(SITES))  # a socket's path is short


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Orthanc]:
    with orthanc(tmp_path / "orthanc", titles=("SITE3", "MEDGAN")) as made:
        yield made


def test_three_hospitals_pull_train_and_release(stage: Stage, server: Orthanc, tmp_path: Path) -> None:
    drawn = tmp_path / "phantoms"
    make_phantoms(drawn, PhantomsConfig(patients=PATIENTS, max_images=1, pixels=32), len(SITES), Seeds(0))
    server.store(pydicom.dcmread(path) for path in sorted(drawn.rglob("*.dcm")))
    counts = _write_tables(drawn, tmp_path)
    study = tiny_study(sites__count=3, data__classes=list(CLASSES), privacy__delta=1e-5, data__modality="OT")
    port = str(free_port())
    command(stage, say, "medgan-server", "init", stage.coordinator, "--host", "localhost", "--port", port)
    for name in SITES:
        folder = stage.site(name)
        command(stage, say, "medgan-client", "init", folder, "--name", name)
        (folder / "keys" / "ca.crt").write_bytes((stage.coordinator / "tls" / "ca.crt").read_bytes())
        (folder / "site.toml").write_text(_site_toml(name, port, server, tmp_path / f"{name}.csv"))
        told = command(stage, say, "medgan-client", "pull", "--site", folder)
        assert f"{counts[name]} images of {counts[name]} patients" in told
        assert look(SiteFolder.open(folder), SiteFolder.open(folder).config()).series == counts[name]
        enrol = ("enroll", folder / "public-card.json", "--name", name, "--dir", stage.coordinator)
        command(stage, say, "medgan-server", *enrol)
    with ended_by_signals(), running(stage, say):
        run = propose(stage, study, say)
        approve(stage, run, say, 200)
        finish(stage, run, say)
    verified = verify_release(stage.path / "release")
    assert (verified.privacy, verified.epsilon > 0) == ("dp", True)
    for name in SITES:
        assert not _names_of_patients(stage.site(name))
    _store_and_read_again(stage, server, sum(counts[name] for name in SITES if SITES[name] == "CT"))


def _store_and_read_again(stage: Stage, server: Orthanc, real: int) -> None:
    """Synthetic studies of the release go to the archive of the real ones, and come back as they were."""
    release, studies = stage.path / "release", stage.path / "studies"
    asked = ("--format", "dicom", "--modality", "CT", "--labels", ",".join(f"{name}=4" for name in CLASSES))
    made = ("--slices-per-series", "2", "--seed", "7", "--out", studies)
    command(stage, say, "medgan", "generate", release, *asked, *made)
    sent = {dataset.SOPInstanceUID: dataset for dataset in map(pydicom.dcmread, _images(studies))}
    assert len(sent) == 4 * len(CLASSES)
    assert f"{len(sent)} files stored" in command(stage, say, "medgan", "send", studies, "--to", server.url)
    digest = Release.open(release).card.generator_sha256
    came: dict[str, pydicom.Dataset] = {}
    with closing(DicomWeb(server.url)) as archive:
        synthetic = {dataset.StudyInstanceUID for dataset in sent.values()}
        listed = [told.StudyInstanceUID for told in archive.studies({"ModalitiesInStudy": "CT"})]
        assert len(listed) == len(synthetic) + real
        for study in synthetic.intersection(listed):
            for series in archive.series(study):
                archive.fetch(study, series.SeriesInstanceUID, lambda content: _note(came, content))
    assert came.keys() == sent.keys()
    for uid, dataset in came.items():
        assert dataset.SyntheticData == "YES"
        assert digest in str(dataset.ContributingEquipmentSequence[0].ContributionDescription)
        assert np.array_equal(dataset.pixel_array, sent[uid].pixel_array)


def _images(studies: Path) -> list[Path]:
    with (studies / "labels.csv").open(newline="", encoding="utf-8") as file:
        return [studies / row["file"] for row in csv.DictReader(file)]


def _note(came: dict[str, pydicom.Dataset], content: bytes) -> None:
    dataset = pydicom.dcmread(io.BytesIO(content))
    came[str(dataset.SOPInstanceUID)] = dataset


def _write_tables(drawn: Path, folder: Path) -> dict[str, int]:
    """Each hospital's own table of labels, by patient; how many patients it has."""
    with (drawn / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    counts = {}
    for name in SITES:
        own = [f"{row['patient']},{row['label']}\n" for row in rows if row["site"] == name]
        (folder / f"{name}.csv").write_text("patient,label\n" + "".join(own), encoding="utf-8")
        counts[name] = len(own)
    return counts


def _site_toml(name: str, port: str, server: Orthanc, table: Path) -> str:
    """Two hospitals speak DICOMweb, the third C-GET; all of them have one archive in common."""
    web = f'kind = "dicomweb"\nurl = "{server.url}"\n'
    pacs = (
        f'kind = "pacs"\nhost = "127.0.0.1"\nport = {server.dicom}\npeer_title = "{TITLE}"\ntitle = "SITE3"\n'
    )
    return (
        f'name = "{name}"\n\n[coordinator]\naddress = "127.0.0.1:{port}"\n{POLICY}\n'
        "[data]\ntext_check = false\n"  # phantoms are noise, in which now and then a word is read
        f"[source]\n{pacs if name == 'site-3' else web}"
        f'[source.cohort]\nmodalities = ["{SITES[name]}"]\nbody_parts = ["CHEST"]\n'
        f'[source.label]\nkind = "table"\nfile = "{table}"\n'
    )


def _names_of_patients(folder: Path) -> list[str]:
    """The files of a site in which a patient of the phantoms is named."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [
        path.name for path in files if any(word in path.read_bytes() for word in (b"PHANTOM^", b"phantom-"))
    ]


def test_a_pull_that_is_killed_goes_on(tmp_path: Path, server: Orthanc) -> None:
    patients, images = 20, 2
    server.store(image(number, study=str(study)) for study in range(1, patients + 1) for number in (1, 2))
    folder = make_site(tmp_path / "site")
    connect(folder, server, source__rate=10 * len(raw(image())))
    objects = folder.pulled / "objects"
    _kill(folder, lambda: objects.is_dir() and len(list(objects.glob("*.note"))) >= 10)
    before = len(list(objects.glob("*.note")))
    assert 10 <= before < patients * images
    with pytest.raises(InputError, match="pulled yet"):
        current_objects(folder.pulled, None)
    done = pull(folder)
    assert f"{patients * images} images of {patients} patients" in done.output
    received = int(done.output.split(" objects received")[0].split()[-1])
    assert received <= patients * images - before + 4 * images  # at most four series were on their way


def _kill(folder: SiteFolder, when: Callable[[], bool]) -> None:
    """Pull in a process of its own, and SIGKILL it when it is time."""
    code = "from client.cli import main; main()"
    words = [sys.executable, "-c", code, "pull", "--site", str(folder.path)]
    process = subprocess.Popen(
        words, cwd=ROOT, env=settled(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    for _ in range(4000):
        if when() or process.poll() is not None:
            break
        time.sleep(0.05)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
