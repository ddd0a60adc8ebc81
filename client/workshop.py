"""How this hospital's worker for a study is made: its data, its ledger, its keys. Warm between rounds."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch

from client.books import open_ledger
from client.diary import Diary
from client.folder import SiteFolder
from client.hospital import Reading, read_site, withdrawn_patients
from client.keys import signing_key
from client.noise_log import in_diary
from client.policy import Facts
from client.site import RandomFor, SiteWorker
from client.site_file import SiteFile
from medgan_core.config import Study
from medgan_core.device import CPU
from medgan_core.privacy import sum_keys
from medgan_core.privacy.ledger import PrivacyLedger
from medgan_core.privacy.membership import Membership
from medgan_core.privacy.noise import Keystream
from medgan_core.privacy.sum_session import Cohort
from medgan_core.proposals import Proposal

_keystream = Keystream()


def secret_random(site: str, round_number: int) -> Keystream:
    """The process's secret source, whatever the site and the round."""
    return _keystream


@dataclass(frozen=True, eq=False)
class Prepared:
    """A worker at hand; `withdrawn` are the patients that it left out, by pseudonym."""

    worker: SiteWorker
    facts: Facts
    withdrawn: frozenset[str]


@dataclass(frozen=True, eq=False)
class Workshop:
    """Everything a worker needs beside the study: one that trains, also its device.

    `random_for` is another one in tests alone; `diary` the folder's, where another clock dates it.
    """

    folder: SiteFolder
    config: SiteFile
    ledger: PrivacyLedger
    key: bytes = field(repr=False)
    random_for: RandomFor = secret_random
    device: torch.device = CPU
    diary: Diary | None = None

    def read(self, study: Study) -> Reading:
        """The data for a study. DataError for what cannot be read."""
        return read_site(self.folder, self.config, study, self.ledger.pseudonym)

    def prepare(self, proposal: Proposal, study: Study, reading: Reading | None = None) -> Prepared:
        """A worker of this site in a run; its patients get their accounts, if they have none yet."""
        withdrawn = withdrawn_patients(self.folder)
        found = reading or self.read(study)
        member = None
        if study.privacy.secure_sum:
            member = Membership(self.config.name, self.key, Cohort.from_json(proposal.sites))
        worker = SiteWorker(
            study,
            found.site,
            proposal.run,
            self.ledger,
            self.folder.runs / proposal.run,
            self.random_for,
            member,
            partial(sum_keys.sign, self.key),
            self.device,
            in_diary(self.folder, self.diary or Diary(self.folder.log), self.config.policy.delta),
        )
        return Prepared(worker, found.facts, withdrawn)


@contextmanager
def opened(folder: SiteFolder) -> Iterator[tuple[Workshop, Diary]]:
    """What a command line needs, beside a trainer that may run: everything checked against its copies."""
    config, diary = folder.config(), Diary(folder.log)
    with open_ledger(folder, config, diary) as ledger:
        yield Workshop(folder, config, ledger, signing_key(folder), diary=diary), diary
