"""The hospitals of a simulation: their patients, their ledgers, and their workers."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import torch

from client.noise_log import in_file
from client.site import RandomFor, SiteWorker
from medgan_core.config import LEAST_PATIENTS, SMALL_TASKS, Study
from medgan_core.data.archives import Archive, read_archive
from medgan_core.data.source import Card, Site, SiteData
from medgan_core.device import CPU, choose
from medgan_core.errors import ConfigError, InputError, IntegrityError
from medgan_core.privacy.ledger import LedgerPolicy, PrivacyLedger, Witness
from medgan_core.privacy.membership import Membership, own_key
from medgan_core.privacy.noise import Keystream
from medgan_core.privacy.sum_keys import sign, verify_key_of
from medgan_core.privacy.sum_session import Cohort
from medgan_core.record import RunFolder, make_folder, read_json, write_json
from medgan_core.seeds import Seeds
from simulations.partition import partition
from simulations.phantoms import make_phantoms

ENGINES = ("loop", "flower")
DATA_VARIABLE = "MEDGAN_DATA"
_DEFAULT_DATA = Path("..") / "shared" / "data"
_HEADS = "ledger-heads.json"
_COHORT = "cohort.json"
_OWN_KEY = "secure-sum.key"
_SIGNING_KEY = "signing.key"
_RELEASE_KEY = "release.key"
NOISE = "noise.jsonl"
"""What a site read of its own noise, in its folder."""
_keystream = Keystream()


def secret_random(site: str, round_number: int) -> Keystream:
    """The process's secret source, whatever the site and the round."""
    return _keystream


@dataclass(frozen=True)
class Launch:
    """What the person who starts a simulation decides beside the study, kept for `resume`.

    `data` and `ledgers` are absolute paths of this machine ("" for the defaults); `public` is this person's
    declaration that the real images are public; `device` is where the networks of sites and coordinator run.
    """

    data: str = ""
    ledgers: str = ""
    engine: str = "loop"
    public: bool = False
    device: str = "auto"

    def check(self) -> None:
        """Raises InputError for an engine that there is not, ConfigError for a device that is not here."""
        self.place()
        if self.engine not in ENGINES:
            raise InputError(f"--engine {self.engine}: expected {' or '.join(ENGINES)}")

    def place(self) -> torch.device:
        """The device itself. Raises ConfigError where this machine has no such one."""
        return choose(self.device, "--device")


def data_root(data: Path | None) -> Path:
    """`--data`, else $MEDGAN_DATA, else ../shared/data."""
    if data is not None and not data.is_dir():
        raise InputError(f"--data {data.name}: no such folder")
    return data or Path(os.environ.get(DATA_VARIABLE) or _DEFAULT_DATA)


def open_sites(
    study: Study, run: RunFolder, launch: Launch, say: Callable[[str], object] = lambda line: None
) -> tuple[Site, ...]:
    """Read the study's images and divide them among its sites; phantoms are made first where asked for.

    `say` hears of a column of sites that the study does not ask for. Raises DataError for a set that cannot
    be read, ConfigError where it has too few patients for its sites.
    """
    root = Path(launch.data) if launch.data else data_root(None)
    if study.phantoms is not None:
        root = run.path / "data"
        _make_phantoms(study, root)
    archive = read_archive(study.data, root, name=study.name)
    _check_size(study, archive)
    if archive.site_of is not None and study.sites.assign == "dirichlet":
        say('the manifest has a column site that is not used: sites.assign = "manifest" would take it')
    sites = partition(archive, study, Seeds(study.seed))
    if alone := [site.name for site in sites if not len(site.held_out)]:
        raise ConfigError(
            "sites.count",
            study.sites.count,
            f"fewer sites, or more patients: {', '.join(alone)} would have no patient to hold out",
        )
    if launch.public or study.phantoms is not None:
        sites = tuple(_declared_public(site) for site in sites)
    return sites


def _check_size(study: Study, archive: Archive) -> None:
    """Refuse a private run on a published set of a few patients, whatever the study declares.

    How many patients a published set has is public; elsewhere a site's own policy looks at its number.
    """
    patients, known = len(archive.data), archive.data.card.public
    if study.private and study.task in SMALL_TASKS and known and patients < LEAST_PATIENTS:
        raise ConfigError(
            "privacy.mode",
            study.privacy.mode,
            f"off for task = {study.task} on {study.data.path}, which has {patients} patients: a private run "
            f"needs {LEAST_PATIENTS} or more",
        )


def open_ledger(study: Study, run: RunFolder, launch: Launch, site: str) -> PrivacyLedger:
    """A site's ledger, compared with the copy of its head that was kept beside the runs."""
    folder = Path(launch.ledgers) / site if launch.ledgers else run.site(site)
    make_folder(folder)
    path = folder / "ledger.sqlite"
    policy = LedgerPolicy(
        epsilon_cap=study.sites.epsilon_cap if study.private else math.inf,
        delta=study.privacy.delta,
        trust_secure_sum=study.sites.trust_secure_sum,
        local_epsilon=study.sites.local_epsilon if study.private else math.inf,
        max_repeats=study.privacy.max_repeats,
    )
    return PrivacyLedger.open(path, site, policy, _heads(run, launch).get(_place(path, launch)))


def keep_heads(run: RunFolder, launch: Launch, ledgers: Sequence[PrivacyLedger]) -> None:
    """Copy the ledgers' heads to the coordinator's side, so that a restored older ledger is noticed."""
    heads = _heads(run, launch) | {_place(ledger.path, launch): ledger.witness() for ledger in ledgers}
    write_json(_heads_file(run, launch), {place: asdict(witness) for place, witness in heads.items()})


def make_worker(
    study: Study,
    run: RunFolder,
    site: Site,
    ledger: PrivacyLedger,
    random_for: RandomFor = secret_random,
    device: torch.device = CPU,
) -> SiteWorker:
    """The worker of one site; its sealed updates lie beside its ledger in the run."""
    member = None
    if (cohort := pinned(study, run)) is not None:
        member = Membership(site.name, own_key(run.site(site.name) / _OWN_KEY), cohort)
    make_folder(folder := run.site(site.name))
    return SiteWorker(
        study,
        site,
        run.name,
        ledger,
        folder / "sealed",
        random_for,
        member,
        partial(sign, signing_key(run, site.name)),
        device,
        note=in_file(folder / NOISE, study.privacy.delta),
    )


def signing_key(run: RunFolder, site: str) -> bytes:
    """The private key with which a simulated site signs its receipts; made at the first call."""
    return own_key(run.site(site) / _SIGNING_KEY)


def release_key(run: RunFolder) -> bytes:
    """The private key with which a simulation signs its release; made at the first call."""
    return own_key(run.path / _RELEASE_KEY)


def pin(study: Study, run: RunFolder, sites: Sequence[Site]) -> None:
    """Make every site's long-term key, and pin the public ones in the run: once, before it is approved.

    In a hospital a person compares and pins them; here all sites are this machine's.
    """
    if study.privacy.secure_sum and not (run.path / _COHORT).exists():
        own = {site.name: own_key(run.site(site.name) / _OWN_KEY) for site in sites}
        write_json(
            run.path / _COHORT, Cohort({name: verify_key_of(key) for name, key in own.items()}).to_json()
        )


def pinned(study: Study, run: RunFolder) -> Cohort | None:
    """The public keys that were pinned for this run; None without secure sums."""
    if not study.privacy.secure_sum:
        return None
    try:
        return Cohort.from_json(read_json(run.path / _COHORT))
    except (AttributeError, TypeError, ValueError) as error:
        raise IntegrityError(f"{_COHORT} is damaged: bring back a copy of it, or start a new run") from error


def pooled(sites: Sequence[Site], card: Card) -> tuple[SiteData, SiteData]:
    """All training and all held-out patients in one place, each once: for public sets alone."""
    return _join([site.training for site in sites], card), _join([site.held_out for site in sites], card)


def _join(parts: Sequence[SiteData], card: Card) -> SiteData:
    import torch

    offsets, patients = [], 0
    parts = list(_once(parts))
    for part in parts:
        offsets.append(part.owner + patients)
        patients += len(part)
    return SiteData(
        card,
        tuple(patient for part in parts for patient in part.patients),
        torch.cat(offsets),
        torch.cat([part.images for part in parts]),
        torch.cat([part.labels for part in parts]),
    )


def _once(parts: Sequence[SiteData]) -> Iterator[SiteData]:
    """Without the patients of earlier parts: those that a study names judge at every site."""
    seen: set[str] = set()
    for part in parts:
        fresh = [i for i, patient in enumerate(part.patients) if patient not in seen]
        seen.update(part.patients)
        yield part if len(fresh) == len(part) else part.of_patients(fresh)


def _make_phantoms(study: Study, root: Path) -> None:
    folder = root / study.data.path
    if not folder.resolve().is_relative_to(root.resolve()):
        # Phantoms are public because they are ours: a study may not give other images that name.
        raise ConfigError("data.path", study.data.path, "a folder below the run's own data, for [phantoms]")
    if study.phantoms is not None and not (folder / "manifest.csv").is_file():
        make_phantoms(folder, study.phantoms, study.sites.count, Seeds(study.seed).child("phantoms"))


def _declared_public(site: Site) -> Site:
    card = replace(site.training.card, public=True)
    return Site(site.name, replace(site.training, card=card), replace(site.held_out, card=card))


def _heads_file(run: RunFolder, launch: Launch) -> Path:
    """In the run's folder, or beside the runs where they share ledgers."""
    return (run.path.parent if launch.ledgers else run.path) / _HEADS


def _heads(run: RunFolder, launch: Launch) -> dict[str, Witness]:
    path = _heads_file(run, launch)
    if not path.is_file():
        return {}
    try:
        return {place: Witness(**body) for place, body in read_json(path).items()}
    except (AttributeError, TypeError) as error:
        raise IntegrityError(f"{path.name} is damaged: bring back a copy of it") from error


def _place(path: Path, launch: Launch) -> str:
    """The site's name within a run, which may be moved; for shared ledgers a digest of the path."""
    return sha256(str(path.resolve()).encode()).hexdigest()[:16] if launch.ledgers else path.parent.name
