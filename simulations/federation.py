"""One coordinator and its hospitals as real processes on this machine, from nothing to a release.

Every step is a command that a person would type, and is shown as such: certificates, keys, enrolment,
daemons, the proposal of a study, each hospital's approval, rounds over Flower with TLS and node
authentication, the release. Each hospital has a folder, data, a policy and a ledger of its own.
"""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import client
from client.approvals import Approvals
from client.folder import SiteFolder
from client.reception import check_place
from medgan_core.config import Study
from medgan_core.data.source import Card
from medgan_core.errors import InputError, MedGANError, RoundError
from medgan_core.record import RunFolder, make_folder, write_atomically
from medgan_core.release.check.policy import Policy, policy_text
from server.planning import decided
from server.run_file import RunFiles
from simulations.folders import write_phantoms, write_site
from simulations.hospitals import Launch, open_sites

Say = Callable[[str], None]

_MODULES = {"medgan-server": "server.cli", "medgan-client": "client.cli", "medgan": "medgan_core.cli"}
_ACCEPTED = "simulation: played through on one machine, and used by nobody"
_POLICY = Policy(least_difference=0.0, max_duplicates=1.0)
"""What is played through here is the way of a release, however poor its images are."""
_GRACE = 40.0
_POLL_SECONDS = 0.5
_ENDED = ("finished", "failed", "stopped", "paused")


@dataclass(frozen=True)
class Stage:
    """The folders of a federation: the coordinator's, and those of the hospitals by name."""

    path: Path
    names: tuple[str, ...]

    @property
    def coordinator(self) -> Path:
        """The coordinator's folder."""
        return self.path / "coordinator"

    @property
    def drawn(self) -> Path:
        """Where the data lie until the hospitals are founded."""
        return self.path / "drawn"

    def site(self, name: str) -> Path:
        """A hospital's folder."""
        return self.path / name


def run_federation(study: Study, out: Path, launch: Launch, say: Say) -> Path:
    """Play a study through, in a new folder below `out`, which is returned.

    Raises InputError for a study whose data cannot be read, RoundError where the run does not finish.
    """
    with under_way(decided(study), out, launch, say) as (stage, run):
        finish(stage, run, say)
    return stage.path


@contextmanager
def under_way(
    study: Study, out: Path, launch: Launch, say: Say, prepare: Callable[[Stage], None] | None = None
) -> Iterator[tuple[Stage, RunFiles]]:
    """A federation in a new folder below `out`, its run approved by every hospital, until the block ends.

    `prepare` changes what is on disk before the first process starts.
    """
    stage = new_stage(study, out)
    say(f"the hospitals' data are written below {stage.path}")
    found(stage, study, write_data(study, stage, launch, say), say)
    if prepare is not None:
        prepare(stage)
    with ended_by_signals(), running(stage, say):
        run = propose(stage, study, say)
        approve(stage, run, say, study.deployment.approval_timeout)
        yield stage, run


def new_stage(study: Study, out: Path) -> Stage:
    """A new folder below `out` for a federation. InputError where its path is too long for a socket."""
    names = tuple(f"site-{number}" for number in range(1, study.sites.count + 1))
    stage = Stage(_new_folder(out, study.name), names)
    check_place(SiteFolder(stage.site(names[-1])).socket)
    return stage


def write_data(study: Study, stage: Stage, launch: Launch, say: Say) -> dict[str, Card | None]:
    """Write each hospital's own part of the data; the card of the set by site, None for phantoms."""
    if study.phantoms is not None:
        write_phantoms(study, stage.drawn, stage.names)
        return dict.fromkeys(stage.names)
    sites = open_sites(study, RunFolder(stage.path), launch, say)
    for name, site in zip(stage.names, sites, strict=True):
        write_site(site, stage.drawn / name)
    return {name: site.training.card for name, site in zip(stage.names, sites, strict=True)}


def found(stage: Stage, study: Study, cards: dict[str, Card | None], say: Say) -> None:
    """Make the coordinator and the hospitals, and exchange certificates and cards."""
    port = str(_free_port())
    command(stage, say, "medgan-server", "init", stage.coordinator, "--host", "localhost", "--port", port)
    authority = (stage.coordinator / "tls" / "ca.crt").read_bytes()
    for name, card in cards.items():
        folder = stage.site(name)
        command(stage, say, "medgan-client", "init", folder, "--name", name)
        (stage.drawn / name).rename(folder / "data")
        (folder / "data").chmod(0o700)
        write_atomically(folder / "keys" / "ca.crt", authority)
        write_atomically(folder / "site.toml", site_toml(name, port, study, card).encode())
        (folder / "site.toml").chmod(0o600)
        command(stage, say, "medgan-client", "check", "--site", folder, "--offline")
        enrol = ("enroll", folder / "public-card.json", "--name", name, "--dir", stage.coordinator)
        command(stage, say, "medgan-server", *enrol)
    stage.drawn.rmdir()


def site_toml(name: str, port: str, study: Study, card: Card | None) -> str:
    """What the administrator of a hospital would fill in; all else are the defaults.

    Networks train on the CPU, as in a simulation, so that both end in the same weights on any machine.
    """
    patients = '"patients.csv"' if card is not None and card.unit == "patient" else '""'
    kind, path = ("dicom", "data") if card is None else ("npz", "data/images.npz")
    public = card is None or card.public
    classes = ", ".join(f'"{known}"' for known in study.data.classes)
    private = "" if study.private else "privacy_off = true\n"
    return (
        f'name = "{name}"\n\n[coordinator]\naddress = "127.0.0.1:{port}"\n\n[trainer]\ndevice = "cpu"\n\n'
        f'[data]\nkind = "{kind}"\n'
        f'path = "{path}"\npatients = {patients}\nclasses = [{classes}]\n'
        f"published = true\npublic = {str(public).lower()}\n\n[policy]\n{private}"
        f"epsilon = {study.sites.epsilon_cap}\nepsilon_per_study = {study.sites.epsilon_cap}\n"
        f"delta = {study.privacy.delta}\nleast_noise_multiplier = 0.0\n"
        f"trust_secure_sum = {str(study.sites.trust_secure_sum).lower()}\nleast_patients = 1\n"
        "least_held_out = 1\n"
    )


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that no daemon outlives it."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def running(stage: Stage, say: Say) -> Iterator[None]:
    """The daemons of all, until the block ends; each gets SIGTERM and has time to end in order."""
    make_folder(stage.path / "logs")
    with ExitStack() as stack:
        stack.enter_context(
            _daemon(stage, say, "coordinator", "medgan-server", "up", "--dir", stage.coordinator)
        )
        for name in stage.names:
            stack.enter_context(_daemon(stage, say, name, "medgan-client", "run", "--site", stage.site(name)))
        yield


def propose(stage: Stage, study: Study, say: Say) -> RunFiles:
    """Start the run; its proposal reaches the hospitals by itself."""
    file = stage.path / "study.toml"
    write_atomically(file, study.to_toml().encode())
    told = command(stage, say, "medgan-server", "start", file, "--dir", stage.coordinator)
    return RunFiles(RunFolder.open(stage.coordinator / "runs" / told.splitlines()[-1]))


def approve(stage: Stage, run: RunFiles, say: Say, timeout: float) -> None:
    """Be the person at each hospital: look at the study and say yes."""
    waiting = set(stage.names)
    end = time.monotonic() + timeout
    while waiting:
        for name in sorted(waiting):
            entries = Approvals(SiteFolder.open(stage.site(name)).studies).all()
            for entry in entries:
                if entry.proposal.run == run.run.name:
                    yes = ("approve", entry.digest[:12], "--site", stage.site(name), "--yes")
                    command(stage, say, "medgan-client", *yes)
                    waiting.discard(name)
        _still_going(run, end, "the proposal did not reach every hospital")


def finish(stage: Stage, run: RunFiles, say: Say) -> None:
    """Tell of the rounds until the run is over, then copy and verify its release."""
    told = 0
    while (standing := run.standing).state not in _ENDED:
        told = _tell_rounds(run, told, say)
        time.sleep(_POLL_SECONDS)
    _tell_rounds(run, told, say)
    if standing.state != "finished":
        raise RoundError(f"the run is {standing.state}: {standing.reason}; the logs are in {stage.path}/logs")
    name, release = run.run.name, stage.path / "release"
    policy = stage.path / "policy.toml"
    write_atomically(policy, policy_text(_POLICY).encode())
    asked = ("--policy", policy, "--accept-inconclusive", _ACCEPTED)
    command(stage, say, "medgan-server", "release", name, release, *asked, "--dir", stage.coordinator)
    command(stage, say, "medgan", "verify", release, "--trust", keys_by_telephone(stage))
    say(f"report: {run.run.path / 'report.html'}")


def keys_by_telephone(stage: Stage) -> Path:
    """A folder with everybody's public keys, as whoever gets the release asks each of them for it."""
    folder = stage.path / "trust"
    make_folder(folder)
    for name in stage.names:
        shutil.copy(SiteFolder(stage.site(name)).public_card, folder / f"{name}.json")
    shutil.copy(stage.coordinator / "coordinator.keys", folder)
    return folder


def command(stage: Stage, say: Say, name: str, *arguments: str | Path) -> str:
    """Run one command as a person would; what it printed. MedGANError where it fails, with its last line."""
    words = [str(argument) for argument in arguments]
    say(f"$ {_typed(stage, name, words)}")
    done = subprocess.run(
        _process(name, words), env=_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise MedGANError(f"{name} {words[0]} failed:\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


@contextmanager
def _daemon(stage: Stage, say: Say, what: str, name: str, *arguments: str | Path) -> Iterator[None]:
    words = [str(argument) for argument in arguments]
    say(f"$ {_typed(stage, name, words)} &")
    with (stage.path / "logs" / f"{what}.log").open("ab") as log:
        process = subprocess.Popen(
            _process(name, words), env=_environment(), stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _tell_rounds(run: RunFiles, told: int, say: Say) -> int:
    path = run.run.path / "rounds.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for line in lines[told:]:
        say(line if len(line) < 200 else f"{line[:200]}…")
    return len(lines)


def _still_going(run: RunFiles, end: float, why: str) -> None:
    standing = run.standing
    if standing.state in _ENDED or time.monotonic() > end:
        raise RoundError(f"{why}; the run is {standing.state}: {standing.reason}")
    time.sleep(_POLL_SECONDS)


def _process(name: str, words: Sequence[str]) -> list[str]:
    return [sys.executable, "-c", f"from {_MODULES[name]} import main; main()", *words]


def _environment() -> dict[str, str]:
    code = str(Path(client.__file__).resolve().parents[1])
    known = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": f"{code}{os.pathsep}{known}" if known else code}


def _typed(stage: Stage, name: str, words: Sequence[str]) -> str:
    """The command line as a person in the federation's folder would type it."""
    shown = [str(Path(word).relative_to(stage.path)) if _below(word, stage.path) else word for word in words]
    return shlex.join([name, *shown])


def _below(word: str, folder: Path) -> bool:
    return Path(word).is_absolute() and Path(word).is_relative_to(folder)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _new_folder(out: Path, name: str) -> Path:
    folder = out.resolve() / f"federation-{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    if folder.exists():
        raise InputError(f"--out {out.name}: {folder.name} is there already; wait a second and start again")
    make_folder(folder)
    return folder
