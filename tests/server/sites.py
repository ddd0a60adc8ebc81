"""Hospitals for tests of a coordinator: real workers and ledgers on made-up images, with keys that sign.

A site answers whatever is asked, here or over a socket: `Served` puts it behind one, so that Flower's own
processes can be in between and be killed, while the sites stay.
"""

import threading
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from multiprocessing.connection import Listener
from pathlib import Path
from typing import ClassVar

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from client.reasons import reason_for_coordinator
from client.secure import Kept
from client.site import SiteWorker
from medgan_core.config import Study, parse_study
from medgan_core.envelope import (
    Answered,
    Asked,
    Envelope,
    answer_to_envelope,
    asked_from_envelope,
    refusal_to_envelope,
)
from medgan_core.errors import MedGANError, RefusedError
from medgan_core.messages import Request, Update
from medgan_core.privacy.membership import Membership
from medgan_core.privacy.sum_keys import new_secret, sign, verify_key_of
from medgan_core.privacy.sum_session import Cohort
from medgan_core.proposals import Farewell, Proposal, Standing
from medgan_core.public_card import PublicCard
from medgan_core.record import RunFolder
from simulations.hospitals import Launch, make_worker, open_ledger, open_sites


@dataclass
class TestSite:
    """One hospital: the `number`-th part of the set below `data`, its ledger and keys below `home`."""

    __test__ = False

    number: int
    home: Path
    data: Path
    approving: bool = True
    _lock: ClassVar[threading.Lock] = threading.Lock()
    """Of all sites: what is imported at the first use would be imported by two threads at once."""

    def __post_init__(self) -> None:
        self.name = f"site-{self.number}"
        self.home.mkdir(parents=True, exist_ok=True)
        self.asked: list[Asked] = []
        self._workers: dict[str, SiteWorker] = {}
        self._sums: dict[str, Kept] = {}

    @cached_property
    def signing_key(self) -> bytes:
        return new_secret()

    @cached_property
    def node_key(self) -> ec.EllipticCurvePrivateKey:
        return ec.generate_private_key(ec.SECP384R1())

    @property
    def card(self) -> PublicCard:
        public = self.node_key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        return PublicCard(self.name, public.decode(), verify_key_of(self.signing_key).hex())

    def write_node_key(self) -> Path:
        """The private node key as Flower's SuperNode reads it."""
        path = self.home / "node"
        path.write_bytes(
            self.node_key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.OpenSSH,
                serialization.NoEncryption(),
            )
        )
        path.chmod(0o600)
        return path

    def kinds(self, run: str) -> list[str]:
        """What was written into the ledger, in its order."""
        return [entry["kind"] for entry in self._workers[run].ledger.export()["entries"]]

    def spent(self, run: str) -> float:
        worker = self._workers[run]
        return max(worker.ledger.spent(account) for account in worker.accounts.values())

    def handle(self, asked: Asked) -> Answered:
        """Answer as a trainer would. Raises MedGANError where it refuses."""
        with self._lock:
            self.asked.append(asked)
            if isinstance(asked, Proposal):
                return self._stand(asked)
            if isinstance(asked, Farewell):
                self._workers[asked.run].ledger.close_run(asked.run)
                return self._signed(Standing(self.name, "", "closed"))
            if asked.run not in self._workers:
                raise RefusedError("not approved")
            return self._answer(asked)

    def close(self) -> None:
        for worker in self._workers.values():
            worker.ledger.__exit__(None, None, None)

    def _stand(self, proposal: Proposal) -> Standing:
        digest = proposal.digest()
        if not self.approving:
            return self._signed(Standing(self.name, digest, "waiting"))
        worker = self._workers.get(proposal.run) or self._worker(proposal)
        card = asdict(worker.site.training.card)
        card |= {name: list(card[name]) for name in ("classes", "image_shape")}
        standing = Standing(self.name, digest, "approved", "", worker.plan.digest(), card)
        return self._signed(standing)

    def _worker(self, proposal: Proposal) -> SiteWorker:
        study: Study = parse_study(proposal.study)
        run, launch = RunFolder(self.home / proposal.run), Launch(data=str(self.data))
        site = replace(open_sites(study, run, launch)[self.number - 1], name=self.name)
        worker = make_worker(
            study.model_copy(update={"privacy": study.privacy.model_copy(update={"secure_sum": False})}),
            run,
            site,
            open_ledger(study, run, launch, self.name),
        )
        if study.privacy.secure_sum:
            pinned = Cohort.from_json(proposal.sites)
            worker = SiteWorker(
                study,
                site,
                proposal.run,
                worker.ledger,
                worker.folder,
                worker.random_for,
                Membership(self.name, self.signing_key, pinned),
            )
        worker.approve()
        self._workers[proposal.run] = worker
        return worker

    def _answer(self, request: Request) -> Answered:
        worker = self._workers[request.run]
        if request.secure is None:
            answer: Answered = worker.answer(request)
        else:
            answer = worker.take_part(request, self._sums.setdefault(request.run, {}))
        if not isinstance(answer, Update):
            return answer
        signature = sign(self.signing_key, answer.receipt.message()).hex()
        return answer.sealed(replace(answer.receipt, signature=signature))

    def _signed(self, standing: Standing) -> Standing:
        return replace(standing, signature=sign(self.signing_key, standing.message()).hex())


class Served:
    """A site behind a unix socket, for a ClientApp in another process."""

    def __init__(self, site: TestSite) -> None:
        self.site = site
        self.socket = site.home / "s"
        self._listener = Listener(str(self.socket))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                with self._listener.accept() as connection:
                    asked = asked_from_envelope(Envelope(*connection.recv()))
                    try:
                        told = answer_to_envelope(self.site.handle(asked))
                    except MedGANError as error:
                        told = refusal_to_envelope(self.site.name, reason_for_coordinator(error))
                    connection.send(tuple(told))
            except (EOFError, ConnectionError, OSError):
                if self._listener.address is None or not self.socket.exists():
                    return

    def close(self) -> None:
        self._listener.close()
        self.socket.unlink(missing_ok=True)
