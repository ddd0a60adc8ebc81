"""A real Orthanc on loopback, with DICOMweb and DIMSE, in a folder of its own; ended by its id."""

import gc
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset

LEAKY = pytest.mark.filterwarnings(  # pynetdicom and urllib3 leave sockets of failed connections open
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
PROGRAM = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
TITLE = "ORTHANC"
needs_orthanc = pytest.mark.skipif(
    not (Path(PROGRAM).is_file() and PLUGIN.is_file()),
    reason="needs Orthanc with its DICOMweb plug-in (apt-get install orthanc orthanc-dicomweb)",
)


@dataclass(frozen=True)
class Orthanc:
    """A server that runs."""

    http: int
    dicom: int
    pid: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}/dicom-web"

    def store(self, datasets: Iterable[Dataset]) -> None:
        """STOW-RS, some at a time."""
        client = DICOMwebClient(self.url)
        waiting = list(datasets)
        for start in range(0, len(waiting), 50):
            answer = client.store_instances(waiting[start : start + 50])
            assert not answer.get("FailedSOPSequence"), answer


@contextmanager
def orthanc(
    folder: Path, titles: Iterable[str] = ("MEDGAN",), users: Mapping[str, str] | None = None
) -> Iterator[Orthanc]:
    """Orthanc until the block ends; `titles` are the AE titles that may ask it."""
    http, dicom = _free_port(), _free_port()
    folder.mkdir(parents=True)
    modalities = {
        name: {"AET": name, "Host": "127.0.0.1", "Port": 104, "AllowFind": True, "AllowGet": True}
        for name in titles
    }
    settings = {
        "StorageDirectory": "db",
        "IndexDirectory": "db",
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": bool(users),
        "RegisteredUsers": dict(users or {}),
        "DicomAet": TITLE,
        "DicomPort": dicom,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowStore": False,
        "DicomAlwaysAllowFind": False,
        "DicomAlwaysAllowGet": False,
        "DicomCheckModalityHost": True,
        "DicomModalities": modalities,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "HttpThreadsCount": 8,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM, "orthanc.json"],
            cwd=folder,
            env=os.environ | {"TCP_NODELAY": "1"},
            stdout=log,
            stderr=log,
        )
    try:
        _wait(http, process, folder / "log")
        yield Orthanc(http, dicom, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        gc.collect()  # sockets that were left open belong to this module's tests


def _wait(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(200):
        assert process.poll() is None, log.read_text(errors="replace")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/system", timeout=2).close()
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(log.read_text(errors="replace"))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
