"""Secure sums through trainers: a person pins the keys by approving, and nothing but masks leaves."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.diary import Diary
from client.keys import verify_key
from client.reasons import reason_for_coordinator
from client.trainer import Trainer
from medgan_core.envelope import Answered
from medgan_core.errors import MedGANError
from medgan_core.messages import Request, Stage, StageReply, SumStage, Update
from medgan_core.privacy.sum_session import Cohort
from medgan_core.proposals import Proposal, Standing
from server.exchange import Answer, Refusal
from server.secure import SecureRound
from tests.client.sites import NOON, approve_all, configure, coordinator, make_site, trainer
from tests.server.making import Federation

NAMES = ("site-1", "site-2", "site-3")
SUMS = {"privacy__secure_sum": True, "privacy__drop": 0}
LIMITS = {"policy__trust_secure_sum": True, "policy__epsilon_per_study": 50.0, "policy__local_epsilon": 90.0}


@pytest.fixture
def of() -> Federation:
    made = coordinator(**SUMS)
    return replace(made, state=replace(made.state, sites=NAMES))


@pytest.fixture
def trainers(tmp_path: Path, of: Federation) -> Iterator[dict[str, Trainer]]:
    """Three hospitals whose people have approved the study with each other's keys."""
    folders = {name: make_site(tmp_path / name, name) for name in NAMES}
    asked = Proposal("run-1", of.study.to_dict(), {n: verify_key(folder) for n, folder in folders.items()})
    with ExitStack() as stack:
        made = {}
        for name, folder in folders.items():
            configure(folder, **LIMITS, policy__approval=False)
            made[name] = stack.enter_context(trainer(folder))
            waiting = made[name].handle(asked)
            assert isinstance(waiting, Standing)
            assert waiting.answer == "waiting"  # whatever site.toml says: pinning keys is a person's act
            approve_all(folder)
            standing = made[name].handle(asked)
            assert isinstance(standing, Standing)
            assert standing.approved
        yield made


def cohort(trainers: dict[str, Trainer]) -> Cohort:
    return Cohort({name: bytes.fromhex(verify_key(desk.folder)) for name, desk in trainers.items()})


def test_a_sum_of_three_hospitals_arrives(trainers: dict[str, Trainer], of: Federation) -> None:
    seen: list[Answered] = []

    def exchange(request: Request) -> Iterator[Answer]:
        for name, desk in trainers.items():
            try:
                answer = desk.handle(request)
                assert isinstance(answer, (Update, StageReply))
                seen.append(answer)
                yield answer
            except MedGANError as error:
                yield Refusal(name, f"{name}: {reason_for_coordinator(error)}")

    rules = of.plan.rules
    assert rules is not None
    round_ = SecureRound(of.request(), of.plan, rules, cohort(trainers), 0, exchange)
    total = round_.run(np.zeros((2, of.study.feature_count + 1)))
    assert round_.sites == NAMES
    assert np.isfinite(total).all()
    assert [receipt.signature != "" for receipt in round_.receipts] == [True] * 3
    assert {type(answer) for answer in seen} == {Update, StageReply}
    stages = [
        n.facts.get("stage") for n in Diary(trainers["site-1"].folder.log).notes() if n.kind == "answered"
    ]
    assert stages == [str(stage) for stage in Stage]


def test_another_key_in_the_cohort_is_refused(trainers: dict[str, Trainer], of: Federation) -> None:
    changed = Cohort(dict(cohort(trainers).keys) | {"site-3": b"k" * 32})
    told = []

    def exchange(request: Request) -> Iterator[Answer]:
        for name, desk in trainers.items():
            with pytest.raises(MedGANError, match="not the one pinned here") as caught:
                desk.handle(request)
            told.append(reason_for_coordinator(caught.value))
            yield Refusal(name, "no")

    rules = of.plan.rules
    assert rules is not None
    with pytest.raises(MedGANError, match="0 sites are left"):
        SecureRound(of.request(), of.plan, rules, changed, 0, exchange)._replies(
            Stage.ADVERTISE, {}, lambda name, messages: b""
        )
    assert set(told) == {"not approved"}


def test_a_session_that_began_in_time_ends_after_hours(tmp_path: Path, of: Federation) -> None:
    folder = make_site(tmp_path / "site")
    configure(folder, **LIMITS, schedule__hours='"19:00-07:00"')
    keys = {"site-1": verify_key(folder), "site-2": "ab" * 32, "site-3": "cd" * 32}
    request = of.request()

    def staged(stage: Stage) -> Request:
        return replace(request, secure=SumStage(stage, 0, "n" * 32, request.query(), keys))

    with trainer(folder, at=NOON) as desk:
        desk.handle(Proposal("run-1", of.study.to_dict(), keys))
        approve_all(folder)
        with pytest.raises(MedGANError, match="not now"):
            desk.handle(staged(Stage.ADVERTISE))
        with pytest.raises(MedGANError, match="no such session"):
            desk.handle(staged(Stage.CONFIRM))
