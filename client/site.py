"""A site at work: it charges its ledger, runs the round, seals the update on disk, and only then answers.

The same request gets the same bytes for ever; any other request for that round is refused by the ledger. What
the plan sums securely leaves this site under a mask, and never in another way.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import torch

from client.incoming import Incoming
from client.round import local_round, noisy_words
from client.secure import Kept, SumDesk
from medgan_core.config import Study
from medgan_core.data.fitness import check_site
from medgan_core.data.source import Site, SiteData
from medgan_core.device import CPU
from medgan_core.errors import IntegrityError, RefusedError
from medgan_core.gan.task import GanTask, PatientTask
from medgan_core.gan.tasks import make_task
from medgan_core.messages import (
    AccountName,
    Event,
    Groups,
    Phase,
    Receipt,
    Request,
    Stage,
    StageReply,
    SumStage,
    Update,
)
from medgan_core.privacy import secure_sum
from medgan_core.privacy.ledger import Charge, PrivacyLedger
from medgan_core.privacy.membership import Membership
from medgan_core.privacy.noise import SecretRandom
from medgan_core.privacy.noise_watch import NoiseReading, NoiseWatch
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.record import load_groups, make_folder, save_groups
from medgan_core.seeds import Seeds

RandomFor = Callable[[str, int], SecretRandom]
Sign = Callable[[bytes], bytes]
Note = Callable[[Request, NoiseReading], None]
_KEPT_STEPS = 4


class SiteWorker:
    """One site in one run. `folder` holds its sealed updates; `random_for(site, round)` its secret source.

    `member` is needed for secure sums: the site's own key, and those that its person has pinned. With `sign`
    every receipt that leaves is signed. Networks train on `device`. `worked` are the seconds of work on data
    for the latest answer, 0 for one that was replayed. `note` keeps what was read from the noise of a round,
    at this site alone; noise that is not what was charged ends the round with NoiseError, and nothing leaves.
    """

    def __init__(
        self,
        study: Study,
        site: Site,
        run: str,
        ledger: PrivacyLedger,
        folder: Path,
        random_for: RandomFor,
        member: Membership | None = None,
        sign: Sign | None = None,
        device: torch.device = CPU,
        note: Note | None = None,
    ) -> None:
        check_site(study, site)
        card, most = site.training.card, study.privacy.max_images_per_patient
        self.task = make_task(study, card.image_shape, card.classes)
        training = _trained_on(self.task, site)
        self.site = Site(site.name, training.at_most(most), site.held_out.at_most(most))
        self.study = study
        self.run = run
        self.ledger = ledger
        self.folder = folder
        self.random_for = random_for
        self.member = member
        self.sign = sign
        self.device = device
        self.note = note
        self.worked = 0.0
        self.plan = PrivacyPlan.of(study, card.unit)
        self._incoming = Incoming(study, self.task)
        self.accounts: dict[AccountName, str] = {
            "training": ledger.enrol(self.site.training.patients),
            "held_out": ledger.enrol(self.site.held_out.patients),
        }

    def approve(self) -> None:
        """Reserve what the whole run will cost. Raises BudgetError where the site's cap does not allow it.

        With secure sums the approval is of the cohort's pinned keys too: it does not hold for others.
        """
        holds: dict[str, tuple[Event, ...]] = {}
        for name, account in self.accounts.items():  # both may be one account, after a merge
            holds[account] = holds.get(account, ()) + self.plan.holds(name)
        self.ledger.hold(self.run, self._approved(), holds)

    def _approved(self) -> str:
        """The digest of what a person says yes to: the plan, and with secure sums the keys of the cohort."""
        if self.plan.rules is None:
            return self.plan.digest()
        member = self._member()
        member.check(self.plan.rules)
        return sha256(f"{self.plan.digest()}\n{member.pinned.digest()}".encode()).hexdigest()

    def answer(self, request: Request) -> Update:
        """Charge, compute, seal, return; or replay what was sealed for this request.

        Raises RefusedError (budget, another request in the same round, or one that lacks what the round
        needs) before any data is touched.
        """
        self.worked = 0.0
        self._check(request)
        if request.secure is not None or self.plan.summed(request.phase):
            raise RefusedError(
                f"round {request.round}: {request.phase} leaves this site in secure sums alone"
            )
        if self._sealed(request) is None:
            self._incoming.check(request)
        kept = self._kept(request)
        charge = self._charge(request)
        if charge.state == "sealed":
            return self._replay(request, charge.receipt)
        return self._compute(request, charge.receipt, load_groups(kept)[0] if kept else {})

    def take_part(self, request: Request, kept: Kept) -> Update | StageReply:
        """One stage of a secure sum. Only its masked vector is charged, sealed and an update.

        `kept` is where the sum lives between two stages, in memory: `client.secure`.
        Raises RefusedError for whatever does not fit the session, before data are touched.
        """
        self.worked = 0.0
        self._check(request)
        asked, rules = request.secure, self.plan.rules
        if asked is None or rules is None or not self.plan.summed(request.phase):
            raise RefusedError(f"round {request.round}: the plan has no secure sum for {request.phase}")
        desk = SumDesk(self._member(), rules, kept)
        return self._mask(request, asked, desk) if asked.stage is Stage.MASK else desk.reply(request, asked)

    def _mask(self, request: Request, asked: SumStage, desk: SumDesk) -> Update:
        if (sealed := self._sealed(request)) is not None:
            return self._replay(request, sealed)
        session, party = desk.received(request, asked)
        self._incoming.check(request)
        receipt = self._charge(request, request.query()).receipt
        began, watch = time.monotonic(), self.plan.watch(request.phase)
        words = noisy_words(
            self.study,
            self.task,
            self.plan,
            self.site,
            request,
            Seeds(self.study.seed),
            self.random_for(self.site.name, request.round),
            self.device,
            watch,
        )
        self.worked = time.monotonic() - began
        self._read(request, watch)
        moved, masked = secure_sum.mask(party, words)
        update = Update(
            self.site.name, request.round, request.phase, {"masked": {"sum": masked}}, {}, receipt
        )
        left = self._seal(request, update)
        desk.keep(session, moved, request, {})
        self._forget_steps()
        return left

    def _forget_steps(self) -> None:
        """Delete all but the latest sums of joint steps: a session's nonce never comes back, so nobody asks.

        One that is asked for all the same is refused, since it is not on disk, and never made again.
        """
        for old in sorted(self.folder.glob(f"{self.run}-round-*-{Phase.TRAIN}-*"))[:-_KEPT_STEPS]:
            with suppress(OSError):  # one file too many does no harm
                old.unlink()

    def _member(self) -> Membership:
        if self.member is None:
            raise RefusedError("secure sum: no keys of the cohort are pinned at this site")
        return self.member

    def _check(self, request: Request) -> None:
        where = f"round {request.round}: the request"
        if request.run != self.run:
            raise IntegrityError(f"{where} is of another run than {self.run}")
        if request.plan != self.plan.digest():
            raise IntegrityError(f"{where} names another privacy plan than the study")

    def _sealed(self, request: Request) -> Receipt | None:
        return self.ledger.sealed(request.run, request.round, request.phase, request.digest())

    def _charge(self, request: Request, query: str = "") -> Charge:
        name = self.plan.account(request.phase)
        return self.ledger.charge(
            request.run,
            request.round,
            request.phase,
            request.digest(),
            self.accounts[name],
            name,
            self.plan.event(request.phase),
            query,
            self.plan.max_repeats,
        )

    def _compute(self, request: Request, receipt: Receipt, local: Groups) -> Update:
        began, watch = time.monotonic(), self.plan.watch(request.phase)
        result = local_round(
            self.study,
            self.task,
            self.plan,
            self.site,
            request,
            local,
            Seeds(self.study.seed),
            self.random_for(self.site.name, request.round),
            self.device,
            watch,
        )
        self.worked = time.monotonic() - began
        self._read(request, watch)
        update = Update(self.site.name, request.round, request.phase, result.groups, result.metrics, receipt)
        make_folder(self.folder)
        if result.local:
            save_groups(self._path(request.round, "local"), result.local, {"round": request.round})
        return self._seal(request, update)

    def _read(self, request: Request, watch: NoiseWatch) -> None:
        """Note what the round's noise was, and stop where it is not what was charged."""
        if (reading := watch.reading()) is None:
            return
        if self.note is not None:
            self.note(request, reading)
        reading.check()

    def _seal(self, request: Request, update: Update) -> Update:
        make_folder(self.folder)
        save_groups(self._sealed_path(request), update.groups, {"metrics": dict(update.metrics)})
        return update.sealed(self._signed(self.ledger.seal(update.receipt, update.digest())))

    def _signed(self, receipt: Receipt) -> Receipt:
        return (
            receipt if self.sign is None else replace(receipt, signature=self.sign(receipt.message()).hex())
        )

    def _replay(self, request: Request, receipt: Receipt) -> Update:
        path = self._sealed_path(request)
        groups, header = load_groups(path)
        update = Update(self.site.name, request.round, request.phase, groups, header["metrics"], receipt)
        if update.digest() != receipt.update_digest:
            raise IntegrityError(f"{path.name} is not what the ledger sealed for round {request.round}")
        return update.sealed(self._signed(receipt))

    def _kept(self, request: Request) -> Path | None:
        """What the latest training round before this one kept, where the discriminator stays at the site.

        A round that was cut off before its seal is done again with fresh noise: what its first attempt kept
        counts for nothing, or data would be used twice for one charge.
        """
        if self.study.share == "both" or request.phase is not Phase.TRAIN:
            return None
        for earlier in range(request.round - 1, 0, -1):
            path = self._path(earlier, "local")
            if path.exists() and self.ledger.is_sealed(self.run, earlier, request.phase):
                return path
        return None

    def _sealed_path(self, request: Request) -> Path:
        """A repeated secure sum lies beside the earlier one, and never in its place."""
        kind = str(request.phase)
        return self._path(
            request.round, kind if request.secure is None else f"{kind}-{request.digest()[:16]}"
        )

    def _path(self, round_number: int, kind: str) -> Path:
        return self.folder / f"{self.run}-round-{round_number:06d}-{kind}.safetensors"


def _trained_on(task: GanTask, site: Site) -> SiteData:
    """The training patients with the images that the task trains on, each chosen by itself alone."""
    if not isinstance(task, PatientTask) or not task.trains_on:
        return site.training
    return site.training.of_labels(task.trains_on)
