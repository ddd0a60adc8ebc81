"""A deployed run from proposal to release, whatever ends it in between. Knows Flower through `Contact` alone.

Everything that must not be lost is in the run's folder before the next request goes out, so a process that is
killed anywhere is followed by another one that does the same again: sites replay what they have sealed.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import torch

from medgan_core.config import Study
from medgan_core.data.source import Card
from medgan_core.device import choose
from medgan_core.errors import (
    ConfigError,
    InputError,
    IntegrityError,
    MedGANError,
    QuorumError,
    RefusedError,
    RoundError,
)
from medgan_core.gan.tasks import make_task
from medgan_core.messages import Request, Update, float_to_json
from medgan_core.privacy.sum_session import Cohort
from medgan_core.proposals import NOT_NOW, Farewell, Proposal
from medgan_core.record import RunFolder, read_json, write_json
from server.aggregate import charged
from server.enrolment import enrolled
from server.exchange import Answer, Refusal, StoppedError
from server.finish import finish
from server.flower_state import drop_messages, give_back
from server.folder import CoordinatorFolder
from server.heads import keep_heads, known_heads
from server.roster import Roster, common_card, read_card
from server.rounds import federate
from server.run_file import OVER, SITES, RunFiles, SiteStanding, State
from server.secure import awaited, least_answers
from server.settings import DEVICE
from server.state import FederationState, accounted, initial_state, phase_of

if TYPE_CHECKING:
    from server.contact import Contact

_CARDS = "cards.json"
_GRACE_SECONDS = 30.0
_PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)
_FAREWELL_SECONDS = 30.0


class Deployment:
    """One run and its files. `contact_of(roster)` gives the way to its sites."""

    def __init__(self, folder: CoordinatorFolder, run: RunFolder) -> None:
        self.folder, self.run = folder, run
        self.files = RunFiles(run)
        self.study: Study = run.study()
        self.roster = self._roster()

    def go(self, contact: "Contact") -> None:
        """Serve the run to its end, or to the next thing that a person must mend; its standing says which.

        Of a run that is over, tell the sites that were away when it ended.
        """
        if self.files.standing.state in OVER:
            self.files.now_told(self._farewell(contact, self.files.standing.state))
            return
        try:
            if self.files.stop_wanted:
                raise StoppedError("stopped by the coordinator")
            state = self._kept()
            if state is None or phase_of(self.study, state.round) is not None:
                self._propose(contact)
                state = self._rounds(contact, state)
            self._finish(state)
            self._part(contact, "finished", "release written")
        except StoppedError as error:
            self._part(contact, "stopped", str(error))
        except (InputError, IntegrityError, RefusedError) as error:
            self.files.stand("failed", str(error))
        except MedGANError as error:
            self.files.stand("paused", f"{error}")

    def told(self, site: str, reason: str) -> None:
        """Keep what a site gave instead of an answer."""
        if site in self.roster.proposal.sites:
            standing = self.roster.standings.get(site)
            known = ("", self.files.sites.get(site, SiteStanding()).reason)
            if reason not in known and (standing is None or standing.answer != "waiting"):
                self.files.note_refusal(site, reason)
            self.files.change(site, reason=reason, answer=standing.answer if standing else "")

    def _roster(self) -> Roster:
        names = list(read_json(self.run.path / SITES))
        cards = enrolled(self.folder)
        missing = [name for name in names if name not in cards]
        if missing and self.files.standing.state not in OVER:  # else the others are told of its end
            raise InputError(f"{', '.join(missing)}: no longer enrolled; enrol the card again, then resume")
        keys = {name: cards[name].verify_key for name in names if name in cards}
        heads = known_heads(self.folder.heads, names)
        proposal = Proposal(self.run.name, self.study.to_dict(), keys, heads)
        facts = next(iter(self._cards().values()), None)
        return Roster(self.study, proposal, {name: bytes.fromhex(key) for name, key in keys.items()}, facts)

    def _cards(self) -> dict[str, Card]:
        """The public facts of all sites that approved, also in earlier parts of the run."""
        path = self.run.path / _CARDS
        return {k: read_card(_CARDS, v) for k, v in read_json(path).items()} if path.is_file() else {}

    def _keep_cards(self) -> None:
        approved = {name: self.roster.standings[name] for name in self.roster.approved}
        told = self._cards() | {name: read_card(name, standing.card) for name, standing in approved.items()}
        write_json(self.run.path / _CARDS, {name: asdict(card) for name, card in told.items()})

    def _kept(self) -> FederationState | None:
        kept = self.run.latest_state()
        if kept is None:
            return None
        state = FederationState.restore(*kept)
        self.run.write_rounds(state.history)  # it may have ended between the two
        return state

    def _propose(self, contact: "Contact") -> None:
        """Ask all sites until a quorum has approved. Raises QuorumError where that will not be."""
        roster, needed = self.roster, self._needed()
        sites, patience = len(roster.proposal.sites), self.study.deployment.approval_timeout
        said = ""

        def enough() -> bool:
            nonlocal said
            if said != (now := f"{len(roster.approved)} of {needed} sites have approved"):
                said = now
                self.files.stand("proposing", said)
            return len(roster.approved) >= needed or sites - len(roster.refused) < needed

        contact.propose(patience, enough, _GRACE_SECONDS)
        self._dropped(contact)
        if len(roster.approved) < needed:
            reasons = [f"{name}: {roster.standings[name].reason}" for name in roster.refused]
            refused = f"; refused by {'; '.join(reasons)}" if reasons else ""
            raise QuorumError(f"{said}{refused or f' within {patience:g} s'}")
        self._keep_cards()

    def _needed(self) -> int:
        """How many sites must approve: the quorum, and as many as a secure sum needs."""
        from medgan_core.privacy.plan import PrivacyPlan

        rules = PrivacyPlan.of(self.study, "patient").rules if self.study.privacy.secure_sum else None
        return max(self.study.quorum, rules.survivors if rules else 0)

    def _rounds(self, contact: "Contact", state: FederationState | None) -> FederationState:
        """All rounds that are left; one without a quorum is repeated, then QuorumError."""
        study, roster = self.study, self.roster
        facts, plan = roster.facts, roster.plan
        if facts is None or plan is None:
            raise QuorumError("no site has approved the run")
        task = make_task(study, facts.image_shape, facts.classes)
        latest = state or initial_state(study, task, self.run.name, list(roster.proposal.sites))
        cohort = Cohort({name: roster.keys[name] for name in roster.approved}) if plan.rules else None

        def keep(now: FederationState) -> None:
            nonlocal latest
            self._keep(contact, now, latest)
            latest = now

        if len(noted := accounted(latest.receipts, self.files.receipts)) > len(latest.receipts):
            keep(replace(latest, receipts=noted))  # of a round in which the process before this one died
        device = self._device()
        attempt = _Attempts(study.deployment.attempts, study.deployment.approval_timeout)
        while phase_of(study, latest.round) is not None:
            self.files.stand("running", f"round {latest.round} of {self._last_round()}")
            try:
                return federate(
                    study,
                    task,
                    plan,
                    latest,
                    lambda request: self._exchange(contact, request),
                    keep=keep,
                    refused=lambda refusal: self.told(refusal.site, refusal.reason),
                    cohort=cohort,
                    spill=self.run.arrivals,
                    device=device,
                )
            except StoppedError:
                raise
            except RoundError as error:
                if not attempt.again(latest.round, resting=self._resting()):
                    raise
                self.files.stand("running", f"round {latest.round} is asked again: {error}")
                self._dropped(contact)
                self._wait(contact, _PAUSES[min(attempt.made, len(_PAUSES) - 1)])
        return latest

    def _device(self) -> torch.device:
        """Where the coordinator's networks run. A GPU that is gone pauses the run until a person looked."""
        try:
            return choose(self.folder.settings().device, DEVICE)
        except ConfigError as error:
            raise RoundError(f"{error}; then resume the run") from error

    def _exchange(self, contact: "Contact", request: Request) -> Iterator[Answer]:
        """The answers of all sites to one request, within the study's time.

        A stage of a secure sum needs more sites than a quorum, or fewer; whoever is lost to it may not come
        back in a later one, so that those who are away for a moment have some time to return.
        """
        timeout, rules = self.study.deployment.round_timeout, self.roster.plan and self.roster.plan.rules
        if request.secure is not None and rules:
            least = least_answers(rules, request.secure.stage)
            answers = contact.exchange(request, timeout, least, awaited(request), _GRACE_SECONDS)
        else:
            answers = contact.exchange(request, timeout, self.study.quorum)
        for answer in answers:
            if not isinstance(answer, Refusal):
                self._note(answer, request)
                self.files.change(answer.site, answer="approved", reason="")
            yield answer
            del answer  # or two would be in memory while the next one comes

    def _note(self, answer: Answer, request: Request) -> None:
        """Write what the site was charged for: it may be gone when another process follows this one."""
        plan = self.roster.plan
        if plan and isinstance(answer, Update) and (receipt := charged(answer, request, plan)):
            try:
                self.files.note_receipt(receipt)
            except OSError as error:
                raise MedGANError(
                    f"{self.run.name}: the receipt of {answer.site} could not be kept: "
                    f"{error.strerror}. Free some room on this disk, then resume"
                ) from error

    def _keep(self, contact: "Contact", now: FederationState, before: FederationState) -> None:
        """Make a state durable, then all that can be made from it again."""
        self.run.save_state(now.round, now.groups, now.header())
        self.run.write_rounds(now.history)
        new = now.receipts[len(before.receipts) :]
        keep_heads(self.folder.heads, new)
        for receipt in new:
            spent = max(float(self.files.sites[receipt.site].spent), receipt.spent)
            self.files.change(receipt.site, round=receipt.round, spent=float_to_json(spent))
        self.files.stand("running", f"round {now.round} of {self._last_round()}")
        self._dropped(contact)

    def _resting(self) -> bool:
        """Whether sites that said "not now" would make a quorum with those that answered."""
        reasons = [self.files.sites.get(name, SiteStanding()).reason for name in self.roster.approved]
        resting = [reason.startswith(NOT_NOW) for reason in reasons]
        return any(resting) and sum(resting) + sum(not reason for reason in reasons) >= self.study.quorum

    def _last_round(self) -> int:
        return self.study.last_round

    def _finish(self, state: FederationState) -> None:
        self.files.stand("running", "writing the release")
        self._keep_cards()
        plan = self.roster.plan
        if plan is None:
            raise IntegrityError(f"{_CARDS} is missing: bring back a copy of the run's folder")
        card = common_card(self.study, self._cards())
        keys, signing_key = self.roster.proposal.sites, self.folder.signing_key()
        finish(self.study, self.run, card, plan, state, keys, signing_key)

    def _part(self, contact: "Contact", end: State, why: str) -> None:
        """Tell the sites that the run is over, and write how it ended and who could not be told."""
        heard = self._farewell(contact, end)
        self.files.end(end, why, sorted(set(self.roster.proposal.sites) - set(heard)))

    def _farewell(self, contact: "Contact", end: State) -> tuple[str, ...]:
        """Tell the sites how the run ended; who has heard it."""
        heard = contact.farewell(Farewell(self.run.name, end), _FAREWELL_SECONDS)
        self._dropped(contact)
        return heard

    def _dropped(self, contact: "Contact") -> None:
        drop_messages(self.folder.database, contact.sent)
        contact.sent.clear()
        give_back(self.folder.database)

    def _wait(self, contact: "Contact", seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if contact.stopped():
                raise StoppedError("stopped by the coordinator")
            time.sleep(0.1)


class _Attempts:
    """How often the same round was asked. Sites that rest do not count, for `patience` seconds in all."""

    def __init__(self, most: int, patience: float) -> None:
        self.made, self._most, self._patience = 0, most, patience
        self._round, self._since = -1, 0.0

    def again(self, number: int, *, resting: bool) -> bool:
        """Count a failed attempt at this round; whether another one may follow."""
        if number != self._round:
            self._round, self._since, self.made = number, time.monotonic(), 0
        if resting and time.monotonic() < self._since + self._patience:
            return True
        self.made += 1
        return self.made < self._most
