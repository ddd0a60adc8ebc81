"""A hospital of ten patients with random images, and a coordinator's requests to it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from client.site import RandomFor, SiteWorker
from medgan_core.data.source import Card, Site, SiteData
from medgan_core.messages import Request
from medgan_core.privacy.ledger import LedgerPolicy, PrivacyLedger
from medgan_core.privacy.noise import SeededRandom
from server.state import FederationState
from tests.server.making import CLASSES, Federation, federation

CARD = Card("x", CLASSES, (1, 28, 28), "OT", "patient", public=False)
NOISE = {
    "privacy__mode": "dp",
    "privacy__noise_multiplier": 5.0,
    "privacy__one_shot_noise_multiplier": 5.0,
    "privacy__sampling_rate": 0.5,
    "training__discriminator_steps": 2,
    "evaluation__gate": True,
}


@cache
def coordinator(share: str = "both", rule: str = "sgd") -> Federation:
    return federation(**NOISE, share=share, training__discriminator_optimizer=rule)


@cache
def state(number: int, share: str = "both", rule: str = "sgd") -> FederationState:
    """The coordinator's state before a round, after made-up answers in the rounds before."""
    return coordinator(share, rule).after(number)


def request(number: int, share: str = "both", rule: str = "sgd") -> Request:
    """What the coordinator asks in a round."""
    return coordinator(share, rule).request(state(number, share, rule))


def patients(*names: str, seed: int = 0) -> SiteData:
    """Two random images of every patient."""
    random = torch.Generator().manual_seed(seed)
    count = 2 * len(names)
    images = torch.rand(count, 1, 28, 28, generator=random) * 2 - 1
    return SiteData(CARD, names, torch.arange(count) // 2, images, torch.arange(count) % 2)


def hospital(name: str = "site-1") -> Site:
    return Site(name, patients("a", "b", "c", "d", "e", "f"), patients("u", "v", "w", "x", seed=1))


def seeded(site: str, round_number: int) -> SeededRandom:
    """The same noise in every attempt: for tests of replays alone."""
    return SeededRandom(1000 * round_number + len(site))


class Fresh:
    """A source that never repeats itself, as the real one, but the same in every test."""

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self, site: str, round_number: int) -> SeededRandom:
        self.drawn += 1
        return SeededRandom(self.drawn)


@dataclass(frozen=True)
class Desk:
    """A worker and its ledger."""

    worker: SiteWorker
    ledger: PrivacyLedger

    @property
    def spent(self) -> float:
        return self.ledger.spent(self.worker.accounts["training"])

    @property
    def kinds(self) -> list[str]:
        """What was written into the ledger, in its order."""
        return [entry["kind"] for entry in self.ledger.export()["entries"]]

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.worker.folder.glob("*"))


@contextmanager
def opened(
    folder: Path,
    *,
    share: str = "both",
    rule: str = "sgd",
    site: Site | None = None,
    random_for: RandomFor = seeded,
    cap: float = 50.0,
) -> Iterator[Desk]:
    """The hospital's desk with its files in `folder`; opened again, it goes on."""
    here = site or hospital()
    with PrivacyLedger.open(folder / "ledger.sqlite", here.name, LedgerPolicy(cap)) as ledger:
        study = coordinator(share, rule).study
        yield Desk(SiteWorker(study, here, "run-1", ledger, folder / "sealed", random_for), ledger)


def answer_and_die(folder: Path, where: str) -> None:
    """Answer the one-shot request and be killed (SIGKILL) at `where` in `client.site`."""
    import os
    import signal

    import client.site

    setattr(client.site, where, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with opened(folder) as desk:
        desk.worker.approve()
        desk.worker.answer(request(0))


if __name__ == "__main__":
    answer_and_die(Path(sys.argv[1]), sys.argv[2])
