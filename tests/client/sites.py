"""A hospital's folder with small images, a coordinator's proposals to it, and a clock that stands still."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from client.approvals import Approvals, Entry
from client.books import open_ledger
from client.deciding import approve
from client.diary import Diary
from client.folder import SiteFolder
from client.founding import found_site
from client.judging import judge
from client.keys import signing_key, verify_key
from client.site import RandomFor
from client.site_file import SiteFile
from client.trainer import Trainer
from client.workshop import Workshop
from medgan_core.config import Study
from medgan_core.messages import Request
from medgan_core.privacy.sum_keys import verify_key_of
from medgan_core.proposals import Proposal
from tests.client.making import NOISE, Fresh
from tests.server.making import Federation, federation

NAME = "site-1"
CLASSES = ("normal", "pneumonia")
NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
PATIENTS = tuple(f"Anna-{number:03d}" for number in range(60))
OTHERS = {f"site-{number}": verify_key_of(bytes([number]) * 32).hex() for number in (2, 3, 4)}
LIMITS = {
    "policy.epsilon": 50.0,
    "policy.epsilon_per_study": 20.0,
    "policy.least_patients": 10,
    "policy.least_held_out": 2,
    "policy.largest_sampling_rate": 0.5,
}
DATA = {"data.kind": '"npz"', "data.path": '"images.npz"', "data.patients": '"patients.csv"'}


def make_site(path: Path, name: str = NAME, **changes: Any) -> SiteFolder:
    """A site of 60 patients with an image or two each. Keys of site.toml have two underscores for the dot."""
    folder = SiteFolder(path)
    found_site(folder, name)
    write_images(path)
    configure(folder, **{key.replace(".", "__"): value for key, value in (LIMITS | DATA).items()} | changes)
    return folder


def configure(folder: SiteFolder, **changes: Any) -> SiteFile:
    """Edit lines of site.toml as a person would; values are TOML, True and False as such."""
    section, lines = "", []
    wanted = {key.replace("__", "."): value for key, value in changes.items()}
    for line in folder.site_file.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.split("]")[0].strip("[") + "."
        key = f"{section}{line.split('=')[0].strip()}"
        if "=" in line and not line.startswith("#") and key in wanted:
            value = wanted.pop(key)
            line = f"{line.split('=')[0]}= {str(value).lower() if isinstance(value, bool) else value}"
        lines.append(line)
        if line.startswith("[labels]") and "labels" in wanted:
            lines += [f'"{own}" = "{other}"' for own, other in wanted.pop("labels").items()]
    assert not wanted
    folder.site_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder.config()


def write_images(
    path: Path, patients: tuple[str, ...] = PATIENTS, labels: tuple[str, ...] = CLASSES, seed: int = 0
) -> None:
    """`images.npz` and `patients.csv`: every third patient has two images."""
    random = np.random.default_rng(seed)
    owners = [name for i, name in enumerate(patients) for _ in range(1 + (i % 3 == 0))]
    images = random.integers(0, 256, (len(owners), 28, 28), dtype=np.uint8)
    named = np.array([labels[i % len(labels)] for i in range(len(owners))])
    np.savez(path / "images.npz", images=images, labels=named)
    (path / "patients.csv").write_text("patient\n" + "\n".join(owners) + "\n", encoding="utf-8")


@cache
def coordinator(**changes: Any) -> Federation:
    """One that asks three sites for a tiny study."""
    return federation(**NOISE | {"sites__count": 3} | changes)


def proposal(folder: SiteFolder, run: str = "run-1", study: Study | None = None, **changes: Any) -> Proposal:
    """The study proposed to this site and two others."""
    asked = study or coordinator(**changes).study
    others = dict(list(OTHERS.items())[: asked.sites.count - 1])
    own = folder.config().name
    return Proposal(run, asked.to_dict(), {own: verify_key(folder), **others})


def request(number: int, run: str = "run-1", **changes: Any) -> Request:
    """What the coordinator asks in a round, after made-up answers in the rounds before."""
    of = coordinator(**changes)
    return replace(of.request(of.after(number)), run=run)


@contextmanager
def workshop(folder: SiteFolder) -> Iterator[tuple[Workshop, Approvals, Diary]]:
    """What a command line opens beside the trainer."""
    config, diary = folder.config(), Diary(folder.log)
    with open_ledger(folder, config, diary) as ledger:
        shop = Workshop(folder, config, ledger, signing_key(folder), Fresh())
        yield shop, Approvals(folder.studies), diary


def approve_all(folder: SiteFolder) -> None:
    """A person says yes to whatever waits."""
    with workshop(folder) as (shop, approvals, diary):
        for entry in approvals.all():
            if entry.decision is None:
                approve(shop, approvals, diary, entry, judged(folder, entry), "anna")


def judged(folder: SiteFolder, entry: Entry) -> Any:
    return judge(folder.config(), entry.proposal, verify_key(folder))


def trainer(folder: SiteFolder, random_for: RandomFor | None = None, at: datetime = NOON) -> Trainer:
    return Trainer.open(folder, random_for or Fresh(), lambda: at)
