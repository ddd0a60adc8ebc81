"""The folder of a coordinator: where everything is, and who may read it.

coordinator.toml  nginx.conf  superexec.secret  release.key  coordinator.keys
tls/  flower/  sites/<name>.json  runs/<run>/  logs/
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medgan_core.errors import InputError
from medgan_core.privacy.membership import own_key
from medgan_core.privacy.sum_keys import verify_key_of
from medgan_core.record import RunFolder, make_folder, write_atomically
from medgan_core.release.trust import TrustedKey
from server.pki import write_secret
from server.settings import FILE, Settings

VARIABLE = "MEDGAN_COORDINATOR"


class CoordinatorFolder:
    """Paths in the folder of a coordinator; all are below `path`, which is absolute."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.settings_file = self.path / FILE
        self.tls = self.path / "tls"
        self.secret = self.path / "superexec.secret"
        self.flower = self.path / "flower"
        self.database = self.flower / "state.db"
        self.app = self.flower / "app"
        self.sites = self.path / "sites"
        self.runs = self.path / "runs"
        self.logs = self.path / "logs"
        self.heads = self.path / "heads"
        self.release_key = self.path / "release.key"
        self.public_key = self.path / "coordinator.keys"
        self.nginx = self.path / "nginx.conf"

    @classmethod
    def create(cls, path: Path, settings: Settings) -> "CoordinatorFolder":
        """Make the folder with its secret and settings; nobody else may enter it.

        Raises InputError where there is something else in its place, or a coordinator already.
        """
        folder = cls(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(f"DIR {path.name} is not empty: choose a new folder for the coordinator")
        make_folder(folder.path)
        folder.path.chmod(0o700)
        for part in (folder.tls, folder.flower, folder.sites, folder.runs, folder.logs, folder.heads):
            make_folder(part)
        write_secret(folder.secret, f"{secrets.token_hex(32)}\n".encode())
        folder.settings_file.write_text(settings.to_toml(), encoding="utf-8")
        folder.signing_key()
        return folder

    @classmethod
    def open(cls, path: Path) -> "CoordinatorFolder":
        """An existing folder. Raises InputError where it is none."""
        folder = cls(path)
        if not folder.settings_file.is_file():
            raise InputError(
                f"{path.name or path} is no coordinator's folder: it holds no {FILE}. Make one with "
                f"medgan-server init DIR, or name it with --dir or ${VARIABLE}"
            )
        return folder

    def signing_key(self) -> bytes:
        """The private key that signs releases and recalls, with its public half written beside it.

        Made by `create`, and here for a folder of an earlier version.
        """
        key = own_key(self.release_key)
        if not self.public_key.exists():
            write_atomically(self.public_key, f"{self._trusted(key).line()}\n".encode())
        return key

    def trusted_key(self) -> TrustedKey:
        """Its public half, under the coordinator's name."""
        return self._trusted(self.signing_key())

    def _trusted(self, key: bytes) -> TrustedKey:
        return TrustedKey("coordinator", self.settings().name, verify_key_of(key).hex())

    def settings(self) -> Settings:
        """What coordinator.toml says."""
        return Settings.read(self.settings_file)

    def run(self, name: str) -> RunFolder:
        """A run by its name. Raises InputError where there is none."""
        if "/" in name or not (self.runs / name / "study.toml").is_file():
            known = ", ".join(run.name for run in self.all_runs()) or "none yet"
            raise InputError(f"RUN {name}: no such run; there are: {known}")
        return RunFolder.open(self.runs / name)

    def all_runs(self) -> tuple[RunFolder, ...]:
        """Every run, the oldest first."""
        found = [path.parent for path in self.runs.glob("*/study.toml")]
        return tuple(map(RunFolder, sorted(found, key=lambda p: ((p / "study.toml").stat().st_mtime_ns, p))))


@contextmanager
def held(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock that ends with this process, however it ends. InputError(`busy`) where it is held."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(busy) from error
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a living process holds this lock."""
    try:
        with held(path, ""):
            return False
    except InputError:
        return True
