"""A deployed run over a grid in this process: real sites, real journal; nodes that come, go and lie."""

import errno
import json
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
from flwr.app import Error, Message
from flwr.supercore.task_identity import TaskIdentity

from client.reasons import reason_for_coordinator
from medgan_core.envelope import Answered, Asked
from medgan_core.errors import MedGANError, RefusedError
from medgan_core.messages import Receipt, Request, Stage, Update
from medgan_core.proposals import Farewell, Proposal, Standing
from medgan_core.record import RunFolder, read_json
from medgan_core.release.trust import Trust, TrustedKey
from medgan_core.release.verify import verify_release
from medgan_core.wire import answer_to_records, asked_from_records, refusal_to_records
from server import contact, deployment
from server.coordinator import serve
from server.enrolment import enrol, revoke
from server.flower_state import prepare
from server.folder import CoordinatorFolder
from server.heads import known_heads
from server.run_file import RunFiles
from server.settings import Settings
from server.start import resume, start, stop
from tests.server.sites import TestSite
from tests.simulations.making import study_file, write_set

Reply = Callable[[TestSite, Asked], Answered | None]
SITES = ("site-1", "site-2")


class LostError(Exception):
    """A node that dies while it works."""


class RestsError(Exception):
    """A site that refuses for the time being."""


class Killed(BaseException):
    """The coordinator's process ends here."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower 1.41 lets only a running task make messages; and these tests have no patience."""
    for name in ("_run_id", "_task_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    monkeypatch.setattr(contact, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(contact, "_LIST_SECONDS", 0.0)
    monkeypatch.setattr(contact, "_AGAIN_SECONDS", (0.01,))
    monkeypatch.setattr(deployment, "_PAUSES", (0.01,))
    monkeypatch.setattr(deployment, "_GRACE_SECONDS", 0.5)
    monkeypatch.setattr(deployment, "_FAREWELL_SECONDS", 2.0)
    monkeypatch.setattr(deployment, "drop_messages", lambda database, messages: None)
    monkeypatch.setattr(deployment, "give_back", lambda database: None)


class Grid:
    """Nodes in this process. `reply(site, asked)` may answer in a site's place, say nothing, or raise."""

    def __init__(self, sites: Iterable[TestSite], reply: Reply | None = None) -> None:
        self.nodes = {10 + site.number: site for site in sites}
        self.reply = reply or (lambda site, asked: site.handle(asked))
        self.answers: dict[str, Message] = {}
        self.count = 0

    def get_node_ids(self) -> list[int]:
        return list(self.nodes)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        names = []
        for message in messages:
            self.count += 1
            name = str(self.count)
            message.metadata._message_id = name
            names.append(name)
            if (answer := self._answer(message)) is not None:
                self.answers[name] = answer
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return [self.answers.pop(name) for name in sorted(set(message_ids) & set(self.answers))]

    def _answer(self, message: Message) -> Message | None:
        site = self.nodes[message.metadata.dst_node_id]
        try:
            told = self.reply(site, asked_from_records(message.content))
        except LostError:
            return Message(Error(3, "node unavailable"), reply_to=message)
        except RestsError as error:
            return Message(refusal_to_records("x", str(error)), reply_to=message)
        except MedGANError as error:
            return Message(refusal_to_records("x", reason_for_coordinator(error)), reply_to=message)
        return None if told is None else Message(answer_to_records(told), reply_to=message)


class Hospitals:
    """A coordinator's folder, its sites, and one run."""

    def __init__(self, path: Path, data: Path, names: int = 2, **changes: Any) -> None:
        self.folder = CoordinatorFolder.create(path / "c", Settings())
        prepare(self.folder.database)
        self.sites = [TestSite(number, path / f"home-{number}", data) for number in range(1, names + 1)]
        for site in self.sites:
            site.card.write(path / f"{site.name}.json")
            enrol(self.folder, path / f"{site.name}.json")
        usual = {"sites__count": names, "deployment__round_timeout": 5.0, "deployment__attempts": 2}
        study = study_file(path, **(usual | changes))
        self.run = start(self.folder, study)
        self.files = RunFiles(self.run)

    def serve(self, reply: Reply | None = None, sites: Iterable[TestSite] | None = None) -> Grid:
        grid = Grid(self.sites if sites is None else sites, reply)
        serve(self.folder, self.run.name, grid, "1")
        return grid

    def charges(self) -> list[int]:
        return [site.kinds(self.run.name).count("charge") for site in self.sites]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("data"))


@pytest.fixture
def made(tmp_path: Path, data: Path) -> Iterator[Callable[..., Hospitals]]:
    opened: list[Hospitals] = []

    def make(**changes: Any) -> Hospitals:
        opened.append(Hospitals(tmp_path, data, **changes))
        return opened[-1]

    yield make
    for hospitals in opened:
        for site in hospitals.sites:
            site.close()


def is_round(asked: Asked, number: int) -> bool:
    return isinstance(asked, Request) and asked.round == number


def test_a_run_goes_from_proposal_to_a_release_that_verifies_with_signatures(
    made: Callable[..., Hospitals],
) -> None:
    hospitals = made()
    hospitals.serve()
    assert hospitals.files.standing.state == "finished", hospitals.files.standing
    verified = verify_release(hospitals.run.release)
    assert any("8 receipts are signed with the keys of 2 sites" in line for line in verified.lines)
    keys = (TrustedKey("site", site.name, site.card.verify_key) for site in hospitals.sites)
    trust = Trust((hospitals.folder.trusted_key(), *keys))
    assert verify_release(hospitals.run.release, trust).signers == "2 sites and the coordinator coordinator"
    told = read_json(hospitals.run.path / "metrics.json")
    assert set(told) >= {"released", "gate", "epsilon", "sites"}
    assert "public" not in told
    assert [site["site"] for site in told["sites"]] == list(SITES)
    for site in hospitals.sites:
        assert isinstance(site.asked[-1], Farewell)
        assert "close" in "".join(site.kinds(hospitals.run.name))
    assert hospitals.charges() == [4, 4]
    assert {name: s.round for name, s in hospitals.files.sites.items()} == dict.fromkeys(SITES, 3)
    assert (hospitals.run.path / "samples.png").is_file()
    page = (hospitals.run.path / "report.html").read_text()
    assert "2 hospitals trained" in page
    assert "stay in\neach site's own report" in page


def test_people_take_their_time_to_approve(made: Callable[..., Hospitals]) -> None:
    hospitals = made()
    hospitals.sites[1].approving = False
    asked = 0

    def reply(site: TestSite, what: Asked) -> Answered:
        nonlocal asked
        asked += site.number == 2
        site.approving = site.number == 1 or asked > 3
        return site.handle(what)

    hospitals.serve(reply)
    assert hospitals.files.standing.state == "finished"
    assert not (hospitals.run.path / "refusals.jsonl").exists()  # who waits has not refused
    assert sum(isinstance(what, Proposal) for what in hospitals.sites[1].asked) == 4


def test_without_approval_in_time_the_run_is_paused_and_nothing_was_charged(
    made: Callable[..., Hospitals],
) -> None:
    hospitals = made(deployment__approval_timeout=0.3)
    hospitals.sites[1].approving = False
    hospitals.serve()
    standing = hospitals.files.standing
    assert (standing.state, standing.reason) == ("paused", "1 of 2 sites have approved within 0.3 s")
    assert hospitals.sites[0].kinds(hospitals.run.name).count("charge") == 0
    hospitals.sites[1].approving = True
    resume(hospitals.folder, hospitals.run.name)
    hospitals.serve()
    assert hospitals.files.standing.state == "finished"


def test_a_node_that_came_back_without_its_message_is_asked_again(
    made: Callable[..., Hospitals], monkeypatch: pytest.MonkeyPatch
) -> None:
    hospitals = made(deployment__round_timeout=600.0)
    swallowed = False

    def reply(site: TestSite, asked: Asked) -> Answered | None:
        nonlocal swallowed
        answer = site.handle(asked)
        if site.number == 2 and is_round(asked, 1) and not swallowed:
            swallowed = True
            return None  # sealed, and the node died with it
        return answer

    def lost(database: Path, messages: Collection[str]) -> Collection[str]:
        return messages if swallowed else ()

    monkeypatch.setattr("server.coordinator.lost_messages", lost)
    hospitals.serve(reply)
    assert hospitals.files.standing.state == "finished"
    history = (hospitals.run.path / "rounds.jsonl").read_text().splitlines()
    assert [line.count("site-2") for line in history] == [1] * 4
    assert hospitals.charges() == [4, 4]
    assert sum(is_round(asked, 1) for asked in hospitals.sites[1].asked) == 2


def test_a_dead_site_is_left_out_of_its_round_and_taken_back_in_the_next(
    made: Callable[..., Hospitals],
) -> None:
    hospitals = made(sites__quorum=1, deployment__round_timeout=2.0)

    def reply(site: TestSite, asked: Asked) -> Answered:
        if site.number == 2 and is_round(asked, 1):
            raise LostError
        return site.handle(asked)

    hospitals.serve(reply)
    assert hospitals.files.standing.state == "finished"
    history = (hospitals.run.path / "rounds.jsonl").read_text().splitlines()
    assert [line.count("site-2") for line in history] == [1, 0, 1, 1]
    assert verify_release(hospitals.run.release).epsilon > 0


def test_a_late_site_ends_no_round_later_than_its_time(made: Callable[..., Hospitals]) -> None:
    hospitals = made(sites__quorum=1, deployment__round_timeout=0.5)
    began = time.monotonic()
    hospitals.serve(
        lambda site, asked: None if site.number == 2 and is_round(asked, 1) else site.handle(asked)
    )
    assert time.monotonic() - began >= 0.5
    assert hospitals.files.standing.state == "finished"
    assert "2 in round" not in hospitals.files.standing.reason


def test_too_few_answers_repeat_the_same_request_then_pause_and_resume_replays(
    made: Callable[..., Hospitals],
) -> None:
    hospitals = made(deployment__round_timeout=0.3)
    silent = True

    def reply(site: TestSite, asked: Asked) -> Answered | None:
        return None if silent and site.number == 2 and is_round(asked, 1) else site.handle(asked)

    hospitals.serve(reply)
    standing = hospitals.files.standing
    assert standing.state == "paused"
    assert "round 1: 1 acceptable updates, the study needs 2 (site-2 gave no answer)" in standing.reason
    digests = [asked.digest() for asked in hospitals.sites[0].asked if is_round(asked, 1)]  # type: ignore[union-attr]
    assert len(digests) == 2
    assert len(set(digests)) == 1
    silent = False
    resume(hospitals.folder, hospitals.run.name)
    hospitals.serve(reply)
    assert hospitals.files.standing.state == "finished"
    assert hospitals.charges() == [4, 4]


def test_a_node_that_comes_back_under_another_number_is_asked_again_in_the_same_round(
    made: Callable[..., Hospitals],
) -> None:
    hospitals = made()
    grid = Grid(hospitals.sites)
    lost = False

    def reply(site: TestSite, asked: Asked) -> Answered:
        nonlocal lost
        if site.number == 2 and is_round(asked, 1) and not lost:
            lost = True
            grid.nodes[77] = grid.nodes.pop(12)
            raise LostError
        return site.handle(asked)

    grid.reply = reply
    serve(hospitals.folder, hospitals.run.name, grid, "1")
    assert lost
    assert hospitals.files.standing.state == "finished"
    assert hospitals.charges() == [4, 4]


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_coordinator_that_is_killed_in_any_round_loses_nothing_and_charges_nothing_twice(
    made: Callable[..., Hospitals], number: int
) -> None:
    hospitals = made()

    def reply(site: TestSite, asked: Asked) -> Answered:
        answer = site.handle(asked)
        if site.number == 2 and is_round(asked, number):
            raise Killed
        return answer

    with pytest.raises(Killed):
        hospitals.serve(reply)
    before = hospitals.files.standing
    assert (before.state, hospitals.files.rounds_done) == ("running", number)
    hospitals.serve()
    assert hospitals.files.standing.state == "finished"
    assert hospitals.charges() == [4, 4]


@pytest.mark.parametrize("number", [0, 1])
def test_what_left_a_site_counts_when_its_coordinator_is_killed_and_the_site_is_gone_for_good(
    made: Callable[..., Hospitals], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    hospitals = made(sites__quorum=1, deployment__round_timeout=1.0)
    note = RunFiles.note_receipt

    def note_and_die(files: RunFiles, receipt: Receipt) -> None:
        note(files, receipt)
        if (receipt.site, receipt.round) == ("site-1", number):
            raise Killed

    monkeypatch.setattr(RunFiles, "note_receipt", note_and_die)
    with pytest.raises(Killed):
        hospitals.serve()
    monkeypatch.setattr(RunFiles, "note_receipt", note)

    def reply(site: TestSite, asked: Asked) -> Answered | None:
        return None if site.number == 1 and isinstance(asked, Request) else site.handle(asked)

    hospitals.serve(reply)
    assert hospitals.files.standing.state == "finished", hospitals.files.standing
    kept = read_json(hospitals.run.release / "receipts.json")
    told = [receipt["round"] for receipt in kept if receipt["site"] == "site-1"]
    assert told == list(range(number + 1))
    assert len(told) == hospitals.charges()[0]
    assert known_heads(hospitals.folder.heads, SITES)["site-1"]["sequence"] == max(
        receipt["sequence"] for receipt in kept if receipt["site"] == "site-1"
    )
    verify_release(hospitals.run.release)


def test_a_receipt_cut_off_by_a_crash_hides_none_after_it(made: Callable[..., Hospitals]) -> None:
    hospitals = made()
    hospitals.serve()
    noted = hospitals.files.receipts
    path = hospitals.run.path / "receipts.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    hospitals.files.note_receipt(noted[0])
    assert hospitals.files.receipts == (*noted[:-1], noted[0])


def test_a_run_pauses_where_a_receipt_finds_no_room(
    made: Callable[..., Hospitals], monkeypatch: pytest.MonkeyPatch
) -> None:
    hospitals = made()

    def full(files: RunFiles, receipt: Receipt) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(RunFiles, "note_receipt", full)
        hospitals.serve()
    assert hospitals.files.standing.state == "paused"
    assert "the receipt of site-1 could not be kept: No space left" in hospitals.files.standing.reason
    resume(hospitals.folder, hospitals.run.name)
    hospitals.serve()
    assert hospitals.charges() == [4, 4]


def test_only_signed_answers_count_and_a_forged_one_is_refused_by_name(
    made: Callable[..., Hospitals],
) -> None:
    hospitals = made(sites__quorum=1, deployment__round_timeout=1.0)

    def reply(site: TestSite, asked: Asked) -> Answered:
        answer = site.handle(asked)
        if site.number == 2 and is_round(asked, 0) and isinstance(answer, Update):
            return answer.sealed(replace(answer.receipt, signature="00" * 64))
        return answer

    hospitals.serve(reply)
    first = (hospitals.run.path / "rounds.jsonl").read_text().splitlines()[0]
    assert "site-2" not in first
    [told] = [json.loads(line) for line in (hospitals.run.path / "refusals.jsonl").read_text().splitlines()]
    assert (told["site"], told["rounds_done"]) == ("site-2", 0)
    assert "its receipt is not signed with its enrolled key" in told["reason"]
    assert hospitals.files.standing.state == "finished"


def test_a_site_cannot_stand_or_answer_in_another_s_name(made: Callable[..., Hospitals]) -> None:
    hospitals = made(deployment__approval_timeout=0.3)

    def reply(site: TestSite, asked: Asked) -> Answered:
        answer = site.handle(asked)
        return replace(answer, site="site-1") if isinstance(answer, Standing) and site.number == 2 else answer

    hospitals.serve(reply)
    assert hospitals.files.standing.state == "paused"
    assert hospitals.files.standing.reason.startswith("1 of 2 sites have approved")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"plan": "ab" * 32}, "it made another privacy plan of the study"),
        ({"card": {"classes": ["a", "b"]}}, "classes ('a', 'b'), the study has"),
        ({"card": {"image_shape": [1, 32, 32]}}, "images of (1, 32, 32), the study has (1, 28, 28)"),
        ({"card": {"channels": ["T1"]}}, "channels ('T1',), the study has ()"),
        ({"card": {"unit": "image"}}, "its unit is image, that of the others patient"),
        ({"proposal": "cd" * 32}, "answers another proposal"),
    ],
)
def test_an_approval_of_something_else_does_not_count(
    made: Callable[..., Hospitals], change: dict[str, Any], reason: str
) -> None:
    hospitals = made(deployment__approval_timeout=0.3)

    def reply(site: TestSite, asked: Asked) -> Answered:
        answer = site.handle(asked)
        if isinstance(answer, Standing) and site.number == 2:
            body = {**change, "card": {**answer.card, **change.get("card", {})}}
            return site._signed(replace(answer, **body))
        return answer

    hospitals.serve(reply)
    assert hospitals.files.standing.state == "paused"
    assert reason in hospitals.files.sites["site-2"].reason


def test_a_run_that_too_many_refuse_is_paused_with_their_reasons(made: Callable[..., Hospitals]) -> None:
    hospitals = made()

    def reply(site: TestSite, asked: Asked) -> Answered:
        if site.number == 2 and isinstance(asked, Proposal):
            return site._signed(Standing(site.name, asked.digest(), "refused", "epsilon is above 2"))
        return site.handle(asked)

    hospitals.serve(reply)
    standing = hospitals.files.standing
    assert standing.state == "paused"
    assert standing.reason == "1 of 2 sites have approved; refused by site-2: epsilon is above 2"


def test_a_site_that_rests_does_not_use_up_the_attempts(made: Callable[..., Hospitals]) -> None:
    hospitals = made(deployment__round_timeout=0.1, deployment__attempts=1)
    asked_often = 0

    def reply(site: TestSite, asked: Asked) -> Answered:
        nonlocal asked_often
        if site.number == 2 and is_round(asked, 1):
            asked_often += 1
            if asked_often < 30:
                raise RestsError("not now: working hours")
        return site.handle(asked)

    hospitals.serve(reply)
    assert hospitals.files.standing.state == "finished"
    assert asked_often == 30


def test_a_stopped_run_says_farewell_and_its_sites_free_their_holds(
    made: Callable[..., Hospitals],
) -> None:
    hospitals = made()

    def reply(site: TestSite, asked: Asked) -> Answered | None:
        if is_round(asked, 1):
            with suppress(MedGANError):
                stop(hospitals.folder, hospitals.run.name)
            return None
        return site.handle(asked)

    hospitals.serve(reply)
    assert hospitals.files.standing.state == "stopped"
    for site in hospitals.sites:
        assert isinstance(site.asked[-1], Farewell)
        assert site.asked[-1].reason == "stopped"
    assert not hospitals.run.release.exists()
    with pytest.raises(MedGANError, match="is stopped: start a new one"):
        resume(hospitals.folder, hospitals.run.name)


def test_a_site_that_fails_at_the_farewell_is_told_again(made: Callable[..., Hospitals]) -> None:
    hospitals = made()
    tries = 0

    def reply(site: TestSite, asked: Asked) -> Answered:
        nonlocal tries
        if isinstance(asked, Farewell) and site.number == 2:
            tries += 1
            if tries == 1:
                raise LostError
            if tries == 2:
                raise RestsError("failed: the trainer is not running")
        return site.handle(asked)

    hospitals.serve(reply)
    standing = hospitals.files.standing
    assert (standing.state, standing.reason) == ("finished", "release written")
    assert tries == 3
    assert all(site.kinds(hospitals.run.name).count("close") == 1 for site in hospitals.sites)


def test_a_site_that_stays_away_from_the_farewell_is_named(made: Callable[..., Hospitals]) -> None:
    hospitals = made()

    def reply(site: TestSite, asked: Asked) -> Answered:
        if isinstance(asked, Farewell) and site.number == 2:
            raise LostError
        return site.handle(asked)

    hospitals.serve(reply)
    assert hospitals.files.standing.reason == "release written; not told: site-2"
    assert hospitals.files.untold == ("site-2",)


def test_a_site_that_was_away_at_the_end_is_told_later_and_frees_its_hold(
    made: Callable[..., Hospitals],
) -> None:
    hospitals = made()

    def away(site: TestSite, asked: Asked) -> Answered:
        if isinstance(asked, Farewell) and site.number == 2:
            raise LostError
        return site.handle(asked)

    def closed() -> list[int]:
        return [site.kinds(hospitals.run.name).count("close") for site in hospitals.sites]

    hospitals.serve(away)
    rounds, since = hospitals.files.rounds_done, hospitals.charges()
    hospitals.serve(away)  # it is away again
    assert closed() == [1, 0]
    assert hospitals.files.standing.reason == "release written; not told: site-2"
    revoke(hospitals.folder, "site-1")  # which ends nothing for the other
    hospitals.serve()
    assert closed() == [1, 1]
    standing = hospitals.files.standing
    assert (standing.state, standing.reason) == ("finished", "release written")
    assert hospitals.files.untold == ()
    assert (hospitals.files.rounds_done, hospitals.charges()) == (rounds, since)


def test_a_run_that_is_over_stays_so_when_it_cannot_be_told(made: Callable[..., Hospitals]) -> None:
    hospitals = made()
    hospitals.serve()
    (hospitals.run.path / "cards.json").write_text('{"site-1": {}}')
    hospitals.serve()
    assert hospitals.files.standing.state == "finished"


def test_a_paused_run_is_stopped_by_another_process_and_every_site_is_known(
    made: Callable[..., Hospitals],
) -> None:
    hospitals = made(deployment__approval_timeout=0.3)
    hospitals.sites[1].approving = False
    hospitals.serve()
    assert hospitals.files.standing.state == "paused"
    stop(hospitals.folder, hospitals.run.name)
    begun = time.monotonic()

    def reply(site: TestSite, asked: Asked) -> Answered:
        if site.number == 2:
            raise RefusedError("it was never proposed here")
        return site.handle(asked)

    hospitals.serve(reply)
    assert time.monotonic() - begun < deployment._FAREWELL_SECONDS
    assert hospitals.files.standing.reason.endswith("not told: site-2")


def test_only_one_process_serves_a_run(made: Callable[..., Hospitals]) -> None:
    hospitals = made()
    going, proceed = threading.Event(), threading.Event()

    def reply(site: TestSite, asked: Asked) -> Answered:
        going.set()
        proceed.wait(20)
        return site.handle(asked)

    thread = threading.Thread(target=hospitals.serve, args=(reply,))
    thread.start()
    assert going.wait(20)
    with pytest.raises(MedGANError, match="is being served by another process"):
        hospitals.serve()
    proceed.set()
    thread.join(60)
    assert hospitals.files.standing.state == "finished"


def test_a_secure_sum_of_the_approved_sites(made: Callable[..., Hospitals]) -> None:
    hospitals = made(names=3, privacy__secure_sum=True, rounds=1)
    hospitals.serve()
    assert hospitals.files.standing.state == "finished", hospitals.files.standing
    verified = verify_release(hospitals.run.release)
    assert verified.local_epsilon is not None
    assert verified.epsilon < verified.local_epsilon


def test_one_answer_at_a_time_is_in_memory(
    made: Callable[..., Hospitals], monkeypatch: pytest.MonkeyPatch
) -> None:
    hospitals = made(names=3, rounds=1)
    held, found, pulled = WeakSet[Message](), list[int](), Grid.pull_messages

    def pull(self: Grid, message_ids: Iterable[str]) -> list[Message]:
        found.append(len(held))
        come = pulled(self, message_ids)
        held.update(message for message in come if message.has_content() and message.content.array_records)
        assert len(come) <= 1
        return come

    monkeypatch.setattr(Grid, "pull_messages", pull)
    hospitals.serve()
    assert hospitals.files.standing.state == "finished", hospitals.files.standing
    assert len(found) >= 3 * 5
    assert set(found) == {0}


FOUR = {"names": 4, "privacy__secure_sum": True, "privacy__drop": 1, "rounds": 0}


def sites_of_rounds(hospitals: Hospitals) -> list[list[str]]:
    lines = (hospitals.run.path / "rounds.jsonl").read_text().splitlines()
    return [json.loads(line)["sites"] for line in lines]


@pytest.mark.parametrize("stage", [Stage.ADVERTISE, Stage.MASK])
def test_a_site_that_is_gone_is_not_waited_for_in_the_stages_of_a_sum_that_can_do_without(
    made: Callable[..., Hospitals], stage: Stage
) -> None:
    hospitals = made(deployment__round_timeout=300.0, **FOUR)
    grid, begun = Grid(hospitals.sites), time.monotonic()

    def reply(site: TestSite, asked: Asked) -> Answered:
        if site.number == 4 and isinstance(asked, Request) and asked.secure and asked.secure.stage is stage:
            del grid.nodes[14]
            raise LostError
        return site.handle(asked)

    grid.reply = reply
    serve(hospitals.folder, hospitals.run.name, grid, "1")
    assert hospitals.files.standing.state == "finished", hospitals.files.standing
    assert time.monotonic() - begun < 100
    assert sites_of_rounds(hospitals) == [["site-1", "site-2", "site-3"]] * 2


@pytest.mark.parametrize("names", [3, 4])
def test_a_site_that_fails_once_is_asked_again_for_a_sum_whatever_the_quorum(
    made: Callable[..., Hospitals], names: int
) -> None:
    """Three sites can do without none of them, four without one; it comes back while there is grace."""
    changes = FOUR | {"names": names, "privacy__drop": names - 3, "sites__quorum": 2}
    hospitals = made(deployment__attempts=1, **changes)
    failed = set[Stage]()

    def reply(site: TestSite, asked: Asked) -> Answered:
        stage = asked.secure.stage if isinstance(asked, Request) and asked.secure else None
        if site.number == 2 and stage and stage not in failed:
            failed.add(stage)
            raise RestsError("failed: the trainer is not running")
        return site.handle(asked)

    hospitals.serve(reply)
    assert hospitals.files.standing.state == "finished", hospitals.files.standing
    assert failed == set(Stage)
    assert sites_of_rounds(hospitals) == [[f"site-{n}" for n in range(1, names + 1)]] * 2


def test_the_heads_of_the_ledgers_go_out_with_the_next_run(
    made: Callable[..., Hospitals], tmp_path: Path
) -> None:
    hospitals = made()
    hospitals.serve()
    again = start(hospitals.folder, tmp_path / "tiny.toml")
    assert isinstance(again, RunFolder)
    known = deployment.Deployment(hospitals.folder, again).roster.proposal.witnesses
    receipts = read_json(hospitals.run.release / "receipts.json")
    last = max(
        (receipt for receipt in receipts if receipt["site"] == "site-1"), key=lambda r: int(r["sequence"])
    )
    assert known["site-1"] == {name: last[name] for name in ("ledger", "sequence", "head")}
