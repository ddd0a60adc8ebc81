"""A coordinator's contact with its sites over Flower's Grid: with quorum, time limits and no endless wait.

Nodes are listed anew all the time, since one that was restarted comes back under the same name and perhaps
another number. A node that has not approved the run yet is sent the proposal, any other one the request.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from medgan_core.envelope import Asked
from medgan_core.errors import UpdateError
from medgan_core.messages import Request, StageReply, Update
from medgan_core.proposals import NOT_NOW, Farewell, Standing
from medgan_core.wire import answer_from_records, asked_to_records, message_type
from server.exchange import Answer, Refusal, StoppedError
from server.roster import Roster

POLL_SECONDS = 0.2
_LIST_SECONDS = 1.0
_EAGER_SECONDS = 60.0  # of silence, after which polling is less frequent
_AGAIN_SECONDS = (3.0, 5.0, 10.0, 30.0, 60.0)
_PASSING = ("failed", NOT_NOW)
"""How reasons begin that may pass by themselves, so that the node is asked again while there is time."""


@dataclass
class Contact:
    """All that is said in one run. `stopped` is asked at every poll; `sent` collects Flower's message ids.

    `told(site, reason)` hears what a site gave instead of an answer, "" once it answers. `lost` tells which
    of these messages no node will answer, since it was started anew with them in hand: they are sent again.
    """

    grid: Grid
    roster: Roster
    stopped: Callable[[], bool]
    told: Callable[[str, str], None] = lambda site, reason: None
    lost: Callable[[Collection[str]], Collection[str]] = lambda messages: ()
    sent: set[str] = field(default_factory=set)

    def propose(self, seconds: float, enough: Callable[[], bool], grace: float) -> None:
        """Send the proposal to every node, again and again while it has not approved.

        Back when the time is over, or `enough()` and whoever is still at it has had `grace` seconds more. A
        site may take minutes for its first answer, and its person days.
        """
        talk, end = _Talk(self, self.roster.proposal, seconds), float("inf")
        while talk.going() and time.monotonic() < end:
            for node, reply in talk.replies():
                self._standing(node, reply)
                if not self.roster.stands(node):
                    talk.again(node)
            if enough():
                end = min(end, time.monotonic() + grace) if talk.open else 0.0

    def exchange(
        self,
        request: Request,
        seconds: float,
        quorum: int,
        awaited: Collection[str] = (),
        grace: float = 0.0,
    ) -> Iterator[Answer]:
        """Ask the `awaited` sites, by default all of the run; each answer as it comes, and a refusal for each
        of them without one.

        It ends when all of them have answered; or when `quorum` have for `grace` seconds and nobody who was
        asked is still at it; or when too many have refused for the quorum; or when the time is over. A node
        that failed, or was away, is asked again until then.
        """
        sites, good, refused = set(awaited or self.roster.proposal.sites), set[str](), set[str]()
        passing: dict[str, str] = {}
        talk, end = _Talk(self, request, seconds), float("inf")
        while talk.going():
            others = set(self.roster.approved) - sites
            for node, reply in talk.replies(without=good | refused | others):
                answer = self._answer(node, reply)
                if answer is None:
                    talk.again(node, at_once=self.roster.stands(node))
                elif isinstance(answer, Refusal):
                    self.told(answer.site, answer.reason)
                    if answer.reason.startswith(_PASSING):
                        passing[answer.site] = answer.reason
                        talk.again(node)
                    else:
                        refused.add(answer.site)
                        yield answer
                else:
                    good.add(answer.site)
                    self.told(answer.site, "")
                    yield answer
                del reply, answer  # or two would be in memory while the next one comes
            if sites <= good | refused:
                return
            if len(good) >= quorum:
                end = min(end, time.monotonic() + grace)
            if not talk.open and (time.monotonic() >= end or len(sites - refused) < quorum):
                break
        for site in sorted(sites - good - refused):
            reason = passing.get(site) or f"{site} gave no answer"
            self.told(site, reason)
            yield Refusal(site, reason)

    def farewell(self, farewell: Farewell, seconds: float) -> tuple[str, ...]:
        """Tell every node that the run is over, until all sites have heard it or the time is over; who has.

        A node that failed or is away is told again, since its site holds its share of the budget until then.
        """
        sites, heard, settled = set(self.roster.proposal.sites), set[str](), set[str]()
        talk = _Talk(self, farewell, seconds)
        while talk.going() and not sites <= heard:
            for node, reply in talk.replies(without=settled):
                if self._parts(node, reply):
                    settled.add(self.roster.name(node))
                    heard |= settled & sites
                else:
                    talk.again(node)
            if len(settled) >= len(sites) and not talk.pending:
                break
        return tuple(sorted(heard))

    def _parts(self, node: int, reply: Message) -> bool:
        """Whether a node need not be told again: its site signs that the run has ended, or never had it."""
        try:
            answer = self._read(node, reply)
            if isinstance(answer, Standing):
                self.roster.know(node, answer)
                return answer.answer == "closed"
        except UpdateError:
            return False
        return isinstance(answer, Refusal) and not answer.reason.startswith(_PASSING)

    def _standing(self, node: int, reply: Message) -> None:
        """Take an answer to a proposal, or tell why it was not taken."""
        try:
            answer = self._read(node, reply)
            if isinstance(answer, Standing):
                self.roster.hear(node, answer)
                self.told(answer.site, answer.reason if not answer.approved else "")
                return
            reason = answer.reason if isinstance(answer, Refusal) else "no answer to a proposal"
        except UpdateError as error:
            reason = str(error)
        self.told(self.roster.name(node), reason)

    def _answer(self, node: int, reply: Message) -> Answer | None:
        """What a node says to a request; None for a standing, which is taken on the way."""
        name = self.roster.name(node)
        try:
            answer = self._read(node, reply)
            if isinstance(answer, Standing):
                self._standing(node, reply)
                return None
            if isinstance(answer, Refusal):
                return answer
            if isinstance(answer, Update):
                if answer.site != answer.receipt.site:
                    raise UpdateError(f"{name}: an update of {answer.site} with another site's receipt")
                self.roster.check_receipt(node, answer.receipt)
            elif answer.site != name:
                raise UpdateError(f"{name}: a message in the name of {answer.site}")
        except UpdateError as error:
            return Refusal(name, str(error))
        return answer

    def _read(self, node: int, reply: Message) -> Update | StageReply | Standing | Refusal:
        name = self.roster.name(node)
        if reply.has_error():
            return Refusal(name, f"failed: {name} was lost: {reply.error.reason}")
        answer = answer_from_records(reply.content)
        if isinstance(answer, tuple):  # nobody signs a refusal: what counts is which node it came from
            return Refusal(name, answer[1])
        return answer


class _Talk:
    """One thing that is asked of all nodes. `open` are the messages without an answer, by their nodes."""

    def __init__(self, contact: Contact, asked: Asked, seconds: float) -> None:
        self._contact, self._what = contact, asked
        self._records: dict[bool, RecordDict] = {}
        self._heard = time.monotonic()
        self._end = self._heard + seconds
        self._listed, self._nodes = float("-inf"), tuple[int, ...]()
        self._due: dict[int, float] = {}
        self._tries: dict[int, int] = {}
        self.open: dict[str, int] = {}
        self.asked: set[int] = set()

    def going(self) -> bool:
        """Whether there is time left. Raises StoppedError when a person wants the end."""
        if self._contact.stopped() and not isinstance(self._what, Farewell):
            raise StoppedError("stopped by the coordinator")
        return time.monotonic() < self._end

    @property
    def pending(self) -> bool:
        """Whether a node is still at it, or is to be asked again."""
        return bool(self.open or self._due)

    def again(self, node: int, *, at_once: bool = False) -> None:
        """Ask this node once more, by default the later the more often it was asked."""
        tries = self._tries[node] = self._tries.get(node, -1) + 1
        wait = 0.0 if at_once else _AGAIN_SECONDS[min(tries, len(_AGAIN_SECONDS) - 1)]
        self._due[node] = time.monotonic() + wait

    def replies(self, without: Collection[str] = ()) -> Iterator[tuple[int, Message]]:
        """Ask who is to be asked; then each reply that came by now, or none after a short wait."""
        self._ask(without)
        came = False
        for name in list(self.open):  # one by one: together they would all be in memory at once
            for reply in self._contact.grid.pull_messages([name]):
                node = self.open.pop(reply.metadata.reply_to_message_id, None)
                if node is not None:
                    came, self._heard = True, time.monotonic()
                    yield node, reply
                del reply  # or two would be in memory while the next one comes
        if not came:
            time.sleep(POLL_SECONDS if time.monotonic() < self._heard + _EAGER_SECONDS else _LIST_SECONDS)

    def _ask(self, without: Collection[str]) -> None:
        now = time.monotonic()
        if now - self._listed >= _LIST_SECONDS:
            self._nodes, self._listed = tuple(sorted(self._contact.grid.get_node_ids())), now
            self._take_back()
        busy, name = set(self.open.values()), self._contact.roster.name
        waiting = [node for node in self._nodes if node not in busy and name(node) not in without]
        chosen = [n for n in waiting if n not in self.asked or self._due.get(n, now + 1) <= now]
        if chosen:
            self._send(chosen)

    def _take_back(self) -> None:
        """Ask nodes again that lost what they were asked; a site replays what it had sealed by then."""
        for name in self._contact.lost(tuple(self.open)) if self.open else ():
            self.again(self.open.pop(name), at_once=True)

    def _send(self, nodes: Sequence[int]) -> None:
        """One message to each node, in one go, so that Flower keeps their common payload once."""
        left = max(self._end - time.monotonic(), 1.0)
        messages = [self._message(node, left) for node in nodes]
        ids = list(self._contact.grid.push_messages(messages))
        for node, name in zip(nodes, ids, strict=True):
            self.asked.add(node)
            self._due.pop(node, None)
            if name:
                self.open[name] = node
                self._contact.sent.add(name)
            else:  # the node went away in between
                self.again(node)

    def _message(self, node: int, seconds: float) -> Message:
        proposing = isinstance(self._what, Request) and not self._contact.roster.stands(node)
        what: Asked = self._contact.roster.proposal if proposing else self._what
        if proposing not in self._records:
            self._records[proposing] = asked_to_records(what)
        content, kind = self._records[proposing], message_type(what)
        return Message(content=content, dst_node_id=node, message_type=kind, ttl=seconds)
