"""A site at work: it charges its ledger, runs the round, seals the update on disk, and only then answers.

The same request gets the same bytes for ever; any other request for that round is refused by the ledger.
"""

from collections.abc import Callable
from pathlib import Path

from client.round import local_round
from medgan_core.config import Study
from medgan_core.data.source import Site
from medgan_core.errors import IntegrityError
from medgan_core.gan.tasks import make_task
from medgan_core.messages import AccountName, Event, Groups, Phase, Receipt, Request, Update
from medgan_core.privacy.ledger import PrivacyLedger
from medgan_core.privacy.noise import SecretRandom
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.record import load_groups, make_folder, save_groups
from medgan_core.seeds import Seeds

RandomFor = Callable[[str, int], SecretRandom]


class SiteWorker:
    """One site in one run. `folder` holds its sealed updates; `random_for(site, round)` its secret source."""

    def __init__(
        self, study: Study, site: Site, run: str, ledger: PrivacyLedger, folder: Path, random_for: RandomFor
    ) -> None:
        most = study.privacy.max_images_per_patient
        self.site = Site(site.name, site.training.at_most(most), site.held_out.at_most(most))
        self.study = study
        self.run = run
        self.ledger = ledger
        self.folder = folder
        self.random_for = random_for
        card = site.training.card
        self.task = make_task(study, card.image_shape, card.classes)
        self.plan = PrivacyPlan.of(study, card.unit)
        self.accounts: dict[AccountName, str] = {
            "training": ledger.enrol(self.site.training.patients),
            "held_out": ledger.enrol(self.site.held_out.patients),
        }

    def approve(self) -> None:
        """Reserve what the whole run will cost. Raises BudgetError where the site's cap does not allow it."""
        holds: dict[str, tuple[Event, ...]] = {}
        for name, account in self.accounts.items():  # both may be one account, after a merge
            holds[account] = holds.get(account, ()) + self.plan.events(name)
        self.ledger.hold(self.run, self.plan.digest(), holds)

    def answer(self, request: Request) -> Update:
        """Charge, compute, seal, return; or replay what was sealed for this request.

        Raises RefusedError (budget, or another request in the same round) before any data is touched.
        """
        where = f"round {request.round}: the request"
        if request.run != self.run:
            raise IntegrityError(f"{where} is of another run than {self.run}")
        if request.plan != self.plan.digest():
            raise IntegrityError(f"{where} names another privacy plan than the study")
        kept = self._kept(request)
        name = self.plan.account(request.phase)
        charge = self.ledger.charge(
            request.run,
            request.round,
            request.phase,
            request.digest(),
            self.accounts[name],
            name,
            self.plan.event(request.phase),
        )
        if charge.state == "sealed":
            return self._replay(request, charge.receipt)
        return self._compute(request, charge.receipt, load_groups(kept)[0] if kept else {})

    def _compute(self, request: Request, receipt: Receipt, local: Groups) -> Update:
        result = local_round(
            self.study,
            self.task,
            self.plan,
            self.site,
            request,
            local,
            Seeds(self.study.seed),
            self.random_for(self.site.name, request.round),
        )
        update = Update(self.site.name, request.round, request.phase, result.groups, result.metrics, receipt)
        make_folder(self.folder)
        if result.local:
            save_groups(self._path(request.round, "local"), result.local, {"round": request.round})
        save_groups(
            self._path(request.round, request.phase), result.groups, {"metrics": dict(result.metrics)}
        )
        return update.sealed(self.ledger.seal(receipt, update.digest()))

    def _replay(self, request: Request, receipt: Receipt) -> Update:
        path = self._path(request.round, request.phase)
        groups, header = load_groups(path)
        update = Update(self.site.name, request.round, request.phase, groups, header["metrics"], receipt)
        if update.digest() != receipt.update_digest:
            raise IntegrityError(f"{path.name} is not what the ledger sealed for round {request.round}")
        return update

    def _kept(self, request: Request) -> Path | None:
        """What the latest training round before this one kept, where the discriminator stays at the site."""
        if self.study.share == "both" or request.phase is not Phase.TRAIN:
            return None
        for earlier in range(request.round - 1, 0, -1):
            if (path := self._path(earlier, "local")).exists():
                return path
        return None

    def _path(self, round_number: int, kind: str) -> Path:
        return self.folder / f"{self.run}-round-{round_number:06d}-{kind}.safetensors"
