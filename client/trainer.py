"""The hospital's trainer: the one process with data, ledger and keys. Long-lived, and warm between rounds.

`handle` takes whatever a coordinator asks and answers it within the site's policy, or raises a MedGANError of
which `client.reasons` tells what the coordinator may know. What is not in the diary has not left.
"""

import json
import os
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, Self

from client import egress
from client.approvals import Approvals, Entry
from client.books import keep_heads, open_ledger
from client.deciding import approve
from client.diary import Diary
from client.folder import SiteFolder, take
from client.hospital import card_of, withdrawn_patients
from client.judging import Judged, judge
from client.keys import check_card, signing_key
from client.noise_log import check_alarm
from client.reasons import reason_for_coordinator, reason_for_log
from client.secure import Kept
from client.site import RandomFor
from client.site_file import TRAINER_DEVICE
from client.version import trainer_version
from client.workshop import Prepared, Workshop, secret_random
from medgan_core.device import choose
from medgan_core.envelope import Answered, Asked, answer_to_envelope
from medgan_core.errors import InputError, LedgerError, MedGANError, PolicyError, RefusedError
from medgan_core.messages import Phase, Request, Stage, StageReply, Update
from medgan_core.privacy import sum_keys
from medgan_core.privacy.ledger import Witness
from medgan_core.proposals import NOT_APPROVED, NOT_NOW, Farewell, Proposal, Standing

_KEPT_ROUNDS = 4
_ENDS = ("finished", "stopped")


def local_now() -> datetime:
    """The time of the day at which working hours look."""
    return datetime.now().astimezone()


class Trainer:
    """Made by `open`; several threads may call `handle`, which does one thing at a time for each run."""

    def __init__(self, workshop: Workshop, diary: Diary, now: Callable[[], datetime], lock: int) -> None:
        """For `open` alone."""
        self.workshop, self.diary, self.now, self._lock_file = workshop, diary, now, lock
        self.folder, self.config, self.ledger = workshop.folder, workshop.config, workshop.ledger
        self.site = self.config.name
        self.approvals = Approvals(self.folder.studies, diary.now)
        self._own_key = sum_keys.verify_key_of(workshop.key).hex()
        self._prepared: dict[str, Prepared] = {}
        self._kept: defaultdict[str, Kept] = defaultdict(dict)
        self._told: dict[str, tuple[str, str]] = {}
        self._lock = threading.RLock()
        self._runs: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    @classmethod
    def open(
        cls,
        folder: SiteFolder,
        random_for: RandomFor = secret_random,
        now: Callable[[], datetime] = local_now,
    ) -> Self:
        """Take the folder, alone. Keys, ledger and diary are checked against their copies first."""
        config, lock = folder.config(), take(folder)
        try:
            check_card(folder, config.name)
            key, diary = signing_key(folder), Diary(folder.log, lambda: now().astimezone(UTC))
            device = choose(config.trainer.device, TRAINER_DEVICE)
            ledger = open_ledger(folder, config, diary)
            trainer = cls(Workshop(folder, config, ledger, key, random_for, device, diary), diary, now, lock)
        except BaseException:
            os.close(lock)
            raise
        diary.add("started", trainer=trainer_version())
        trainer._keep_heads()
        return trainer

    def close(self) -> None:
        """Let go of the folder. Runs go on when it is opened again."""
        with suppress(MedGANError):  # a full disk may not keep a trainer from ending
            self.diary.add("ended")
            self._keep_heads()
        self.ledger.disconnect()
        os.close(self._lock_file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def handle(self, asked: Asked) -> Answered:
        """The answer to what a coordinator asks. MedGANError for a no or a failure; it is in the diary."""
        with self._of_run(asked.run):
            try:
                return self._answer(asked)
            except MedGANError as error:
                self._note_refusal(asked, error)
                raise

    def _answer(self, asked: Asked) -> Answered:
        if isinstance(asked, Proposal):
            return self._stand(asked)
        if isinstance(asked, Farewell):
            return self._part(asked)
        return self._round(asked)

    # Proposals

    def _stand(self, proposal: Proposal) -> Standing:
        """How this site stands to a proposal; asked again, it says the same until something changes."""
        entry = self.approvals.note(proposal)
        try:
            self._compare(proposal)
            standing = self._standing(entry)
        except (RefusedError, InputError, LedgerError) as error:
            told = reason_for_coordinator(error)
            standing = Standing(self.site, entry.digest, "refused", told)
            self._note_standing(entry, standing, why=reason_for_log(error))
        else:
            self._note_standing(entry, standing)
        return replace(standing, signature=sum_keys.sign(self.workshop.key, standing.message()).hex())

    def _standing(self, entry: Entry) -> Standing:
        site, digest = self.site, entry.digest
        if entry.closed:
            return Standing(site, digest, "refused", f"run: it has ended here ({entry.closed})")
        judged = judge(self.config, entry.proposal, self._own_key)
        decision = entry.decided(trainer_version())
        if decision is None:
            if self.config.policy.approval or judged.study.privacy.secure_sum:
                return Standing(site, digest, "waiting", "a person at the site decides")
            with self._lock:
                self._prepared[entry.proposal.run] = approve(
                    self.workshop, self.approvals, self.diary, entry, judged, "policy"
                )
        elif decision.answer != "approved":
            return Standing(site, digest, "refused", NOT_APPROVED)
        if not self._has_turn(entry):
            return Standing(site, digest, "waiting", f"{NOT_NOW}: other studies come first")
        worker = self._prepare(entry, judged).worker
        worker.approve()
        card = card_of(self.config, judged.study, worker.plan.unit)
        return Standing(
            site, digest, "approved", "", worker.plan.digest(), json.loads(json.dumps(asdict(card)))
        )

    def _compare(self, proposal: Proposal) -> None:
        """Refuse to go on with a ledger that is older than what the coordinator has seen of it."""
        if (known := proposal.witnesses.get(self.site)) is None:
            return
        try:
            witness = Witness(str(known["ledger"]), int(known["sequence"]), str(known["head"]))
        except (KeyError, TypeError, ValueError):
            raise PolicyError("witness: the proposal's is none", "witness: malformed") from None
        try:
            self.ledger.compare(witness)
        except LedgerError as error:
            told = "witness: this site's ledger is older than the copy of its head, or another"
            raise PolicyError(str(error), told) from error

    # Rounds

    def _round(self, request: Request) -> Update | StageReply:
        entry, judged = self._admitted(request)
        prepared = self._prepare(entry, judged)
        replay = self.ledger.sealed(request.run, request.round, request.phase, request.digest())
        self.diary.add("asked", **_of_request(request), repeated=replay is not None)
        worker = prepared.worker
        answer = (
            worker.answer(request)
            if request.secure is None
            else worker.take_part(request, self._kept[request.run])
        )
        self._check_leaving(answer, request, entry, judged)
        self._prune(request.run)
        facts = {"bytes": _size(answer), "seconds": round(worker.worked, 3)}
        self.diary.add("answered", **_of_request(request), **facts)
        self._keep_heads()
        return answer

    def _admitted(self, request: Request) -> tuple[Entry, Judged]:
        """The study of a round, where it is approved and its turn, within the working hours."""
        entry = self.approvals.of_run(request.run)
        if entry is None or not entry.approved(trainer_version()):
            raise RefusedError(f"run {request.run[:128]!r} is not approved here: see medgan-client status")
        check_alarm(self.folder)
        begins = request.secure is None or request.secure.stage is Stage.ADVERTISE
        if begins and not self.config.schedule.open_at(self.now().time()):
            _not_now(f"outside of working hours, {self.config.schedule.hours}")
        if not self._has_turn(entry):
            _not_now("other studies come first")
        judged = judge(self.config, entry.proposal, self._own_key)
        if judged.plan.phase(request.round) is not request.phase:
            why = f"plan: round {request.round} of the approved study is no {request.phase}"
            raise PolicyError(why, why)
        return entry, judged

    def _check_leaving(
        self, answer: Update | StageReply, request: Request, entry: Entry, judged: Judged
    ) -> None:
        if isinstance(answer, StageReply):
            egress.check_reply(answer, request, tuple(entry.proposal.sites))
            return
        allow = egress.allowed(judged.study, judged.plan, request.phase)
        egress.check_update(answer, request, allow, self.config.policy.metrics)

    def _prepare(self, entry: Entry, judged: Judged) -> Prepared:
        """The worker of a run, warm; made again where a patient has withdrawn since."""
        run = entry.proposal.run
        with self._lock:
            found = self._prepared.get(run)
            if found is None or found.withdrawn != withdrawn_patients(self.folder):
                found = self.workshop.prepare(entry.proposal, judged.study)
                self._prepared[run] = found
        return found

    def _has_turn(self, entry: Entry) -> bool:
        most = self.config.schedule.studies_at_once
        return entry.digest in self.approvals.active(trainer_version(), most)

    def _prune(self, run: str) -> None:
        """Drop the updates of training rounds that no coordinator asks for again."""
        for kind in (str(Phase.TRAIN), "local"):
            names = self.folder.runs.joinpath(run).glob(f"{run}-round-*-{kind}.safetensors")
            for old in sorted(names)[:-_KEPT_ROUNDS]:
                with suppress(OSError):  # one file too many does no harm
                    old.unlink()

    # Farewells

    def _part(self, farewell: Farewell) -> Standing:
        """Free what is left of a run's hold, and forget what was kept for it."""
        entry = self.approvals.of_run(farewell.run)
        if entry is None:
            raise RefusedError(f"run {farewell.run[:128]!r} was never proposed here")
        why = farewell.reason if farewell.reason in _ENDS else _ENDS[1]
        with suppress(RefusedError):  # it had no hold
            self.ledger.close_run(farewell.run)
        if not entry.closed:
            self.approvals.close(entry, why)
            self.diary.add("farewell", run=farewell.run, reason=why)
        self._prepared.pop(farewell.run, None)
        self._kept.pop(farewell.run, None)
        shutil.rmtree(self.folder.runs / entry.proposal.run, ignore_errors=True)
        self._keep_heads()
        standing = Standing(self.site, entry.digest, "closed", why)
        return replace(standing, signature=sum_keys.sign(self.workshop.key, standing.message()).hex())

    # The diary

    def _note_standing(self, entry: Entry, standing: Standing, why: str = "") -> None:
        """Coordinators ask every few seconds: a line for each change of the answer is enough."""
        now = (standing.answer, why or standing.reason)
        if self._told.get(entry.digest) == now:
            return
        facts: dict[str, Any] = {"run": entry.proposal.run, "digest": entry.digest, "answer": standing.answer}
        facts |= {"told": standing.reason, "bytes": _size(standing)}
        self.diary.add("proposal", **facts | ({"why": why} if why else {}))
        self._told[entry.digest] = now
        self._keep_heads()

    def _note_refusal(self, asked: Asked, error: MedGANError) -> None:
        facts: dict[str, Any] = {"told": reason_for_coordinator(error), "why": reason_for_log(error)}
        place = _of_request(asked) if isinstance(asked, Request) else {"run": asked.run[:128]}
        with suppress(MedGANError):  # where the diary cannot be written, the error itself says so
            self.diary.add("refused", **place, **facts)

    def _keep_heads(self) -> None:
        keep_heads(self.folder, self.ledger, self.diary)

    def _of_run(self, run: str) -> threading.Lock:
        """One thing at a time for each run, and for all that nobody has proposed."""
        known = self.approvals.of_run(run) is not None
        with self._lock:
            return self._runs[run if known else ""]


def _not_now(why: str) -> None:
    raise PolicyError(f"{NOT_NOW}: {why}", f"{NOT_NOW}: {why}")


def _of_request(request: Request) -> dict[str, Any]:
    facts = {"run": request.run[:128], "round": request.round, "phase": str(request.phase)}
    stage = {} if request.secure is None else {"stage": str(request.secure.stage)}
    return facts | stage | {"digest": request.digest()[:16]}


def _size(answer: Answered) -> int:
    """Bytes of a message, without what carries it."""
    envelope = answer_to_envelope(answer)
    arrays = sum(array.nbytes for group in envelope.groups.values() for array in group.values())
    return len(json.dumps(envelope.head).encode()) + arrays
