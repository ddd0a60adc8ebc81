"""A hospital's folder: what lies where, and who may read it.

    site.toml  public-card.json  keys/  ledger/  studies/  runs/  cache/  pulled/  socket/
    log.jsonl  heads.json  withdrawn.json  noise-alarm.json

Only `socket/` is meant for the node's user, who may pass through the folder but not list it.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from client.site_file import SiteFile, read_site_file
from medgan_core.disk import draft_of, fsync_folder
from medgan_core.errors import InputError, MedGANError, RefusedError

PASSABLE, CLOSED, SECRET = 0o711, 0o700, 0o600


@dataclass(frozen=True)
class SiteFolder:
    """The paths below SITE_DIR. Use `open` for a folder that must be ready for work."""

    path: Path

    @classmethod
    def open(cls, path: Path) -> "SiteFolder":
        """A folder that `init` made. InputError where it is none, RefusedError after `decommission`."""
        folder = cls(path)
        if folder.decommissioned.exists():
            raise RefusedError(
                f"site {path.resolve().name} was decommissioned: its keys are gone; make a new site with init"
            )
        if not folder.site_file.is_file():
            raise InputError(
                f"{path.resolve().name} is no site: it holds no site.toml; run medgan-client init first"
            )
        return folder

    def config(self) -> SiteFile:
        """What site.toml says. ConfigError with name, value and expectation."""
        return read_site_file(self.site_file)

    @property
    def site_file(self) -> Path:
        """The hospital's own policy and where its data are."""
        return self.path / "site.toml"

    @property
    def public_card(self) -> Path:
        """What the coordinator is given."""
        return self.path / "public-card.json"

    @property
    def keys(self) -> Path:
        """The node's user may read its own key in here, and nothing else."""
        return self.path / "keys"

    @property
    def node_key(self) -> Path:
        """ECDSA P-384, OpenSSH; the public one is beside it."""
        return self.keys / "node"

    @property
    def node_public_key(self) -> Path:
        """One OpenSSH line."""
        return self.keys / "node.pub"

    @property
    def signing_key(self) -> Path:
        """Ed25519, 32 raw bytes: signs receipts and stands for the site in secure sums."""
        return self.keys / "signing.key"

    @property
    def ledger(self) -> Path:
        """The privacy ledger; its key is beside it as `.key`."""
        return self.path / "ledger" / "ledger.sqlite"

    @property
    def ledger_key(self) -> Path:
        """The key under which the ledger knows patients."""
        return self.ledger.with_name(f"{self.ledger.name}.key")

    @property
    def studies(self) -> Path:
        """Proposals with their decisions."""
        return self.path / "studies"

    @property
    def runs(self) -> Path:
        """Sealed updates, a folder for each run."""
        return self.path / "runs"

    @property
    def cache(self) -> Path:
        """Prepared pixels of DICOM files, and the report on every file."""
        return self.path / "cache"

    @property
    def pulled(self) -> Path:
        """What is kept of images from an archive."""
        return self.path / "pulled"

    @property
    def log(self) -> Path:
        """The diary."""
        return self.path / "log.jsonl"

    @property
    def heads(self) -> Path:
        """Copies of the heads of ledger and diary."""
        return self.path / "heads.json"

    @property
    def withdrawn(self) -> Path:
        """Pseudonyms of patients who withdrew their consent."""
        return self.path / "withdrawn.json"

    @property
    def noise_alarm(self) -> Path:
        """Its presence stops all rounds: noise was not what was charged."""
        return self.path / "noise-alarm.json"

    @property
    def socket(self) -> Path:
        """Where trainer and node meet."""
        return self.path / "socket" / "trainer.sock"

    @property
    def lock(self) -> Path:
        """Held by the one trainer of this folder."""
        return self.path / "trainer.lock"

    @property
    def decommissioned(self) -> Path:
        """Its presence ends all work."""
        return self.path / "decommissioned.json"

    def modes(self) -> dict[Path, int]:
        """The mode that each path must not go beyond, as far as it exists."""
        wanted = {self.path: PASSABLE, self.keys: PASSABLE}
        closed = (self.ledger.parent, self.studies, self.runs, self.cache, self.pulled)
        wanted |= dict.fromkeys(closed, CLOSED)
        secret = (self.site_file, self.signing_key, self.ledger, self.ledger_key, self.log, self.heads)
        wanted |= dict.fromkeys((*secret, self.withdrawn, self.noise_alarm, self.node_key), SECRET)
        return {path: mode for path, mode in wanted.items() if path.exists()}

    def too_open(self) -> dict[Path, int]:
        """The paths that others may use in a way they should not, with the mode they should have."""
        return {
            path: mode
            for path, mode in self.modes().items()
            if stat.S_IMODE(path.stat().st_mode) & ~mode & 0o777
        }

    def make(self) -> None:
        """Make the folders, with their modes. InputError where that is not possible."""
        closed = (self.ledger.parent, self.studies, self.runs, self.cache)
        with _made(self.path):
            for path in (self.path, self.keys, self.socket.parent):
                path.mkdir(parents=True, exist_ok=True)
                path.chmod(PASSABLE)
            for path in closed:
                path.mkdir(exist_ok=True)
                path.chmod(CLOSED)


def write_private(path: Path, content: bytes) -> None:
    """A new file of mode 0600, on disk together with its name. InputError where there is one already."""
    with on_disk(path):
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, SECRET)
        except FileExistsError:
            raise InputError(f"{path.name} exists already and is never overwritten") from None
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fsync_folder(path.parent)
        except BaseException:
            path.unlink()
            raise


def replace_private(path: Path, content: bytes) -> None:
    """Put a file of mode 0600 in another's place: after a crash it is the old one or the new one."""
    with on_disk(path):
        with draft_of(path, SECRET) as part:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        fsync_folder(path.parent)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone among the processes that take this lock; a killed one lets go of it."""
    with on_disk(path):
        handle = os.open(path, os.O_CREAT | os.O_RDWR, SECRET)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def on_disk(path: Path) -> Iterator[None]:
    """Turn an error of the file system into one that names the file, not its folder."""
    try:
        yield
    except OSError as error:
        cause = error.strerror or type(error).__name__
        raise MedGANError(f"{path.name} could not be written: {cause}; check disk and folder") from None


@contextmanager
def _made(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path.resolve().name}: {error.strerror}; choose a folder that you may write to"
        ) from None


def take(folder: SiteFolder) -> int:
    """Take a folder for one process, until the descriptor is closed. InputError where another one has it."""
    with on_disk(folder.lock):
        handle = os.open(folder.lock, os.O_CREAT | os.O_RDWR, SECRET)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise InputError("a trainer works in this folder already: stop it first") from None
    return handle


@contextmanager
def alone(folder: SiteFolder) -> Iterator[None]:
    """Without a trainer in the meantime. InputError where one is running."""
    handle = take(folder)
    try:
        yield
    finally:
        os.close(handle)


def running(folder: SiteFolder) -> bool:
    """Whether a trainer works in this folder."""
    try:
        os.close(take(folder))
    except InputError:
        return True
    return False
