"""How this hospital's worker for a study is made: its data, its ledger, its keys. Warm between rounds."""

from dataclasses import dataclass, field
from functools import partial

from client.folder import SiteFolder
from client.hospital import Reading, read_site, withdrawn_patients
from client.policy import Facts
from client.site import RandomFor, SiteWorker
from client.site_file import SiteFile
from medgan_core.config import Study
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
    """Everything a worker needs beside the study. `random_for` is another one in tests alone."""

    folder: SiteFolder
    config: SiteFile
    ledger: PrivacyLedger
    key: bytes = field(repr=False)
    random_for: RandomFor = secret_random

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
        )
        return Prepared(worker, found.facts, withdrawn)
