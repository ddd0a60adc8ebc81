"""A secure sum from the coordinator's side, with real sites that drop out, lie, or answer out of turn."""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import client.round
import client.site
from medgan_core.config import GATE_SIZE
from medgan_core.errors import QuorumError, RoundError
from medgan_core.messages import PROPORTIONS, Phase, Stage, StageReply, Update
from medgan_core.privacy.grid import STEPS
from medgan_core.privacy.ledger import LedgerPolicy
from medgan_core.privacy.sum_rules import SumRules
from server.exchange import Answer, Refusal
from server.rounds import federate
from server.secure import awaited, least_answers
from server.state import FederationState, noisy_proportions
from tests.client.making import Fresh
from tests.client.sums import COHORT, SITES, Hospitals, coordinator
from tests.server import making

OFF = {"privacy__mode": "off"}


@pytest.fixture
def hospitals(tmp_path: Path) -> Iterator[Hospitals]:
    with Hospitals(tmp_path, coordinator()) as opened:
        yield opened


def like(hospitals: Hospitals) -> Any:
    return np.zeros((2, hospitals.of.plan.one_shot_size // 2))


def run(hospitals: Hospitals, keep: Callable[[FederationState], None] = lambda s: None) -> FederationState:
    of = hospitals.of
    return federate(of.study, of.task, of.plan, of.state, hospitals.exchange, keep=keep, cohort=COHORT)


# The sum


def test_without_noise_a_secure_run_ends_in_the_plain_sums_up_to_the_grid(tmp_path: Path) -> None:
    ends = {}
    for secure in (True, False):
        folder = tmp_path / str(secure)
        folder.mkdir()
        changes = OFF | {"privacy__secure_sum": secure, "rounds": 0}
        with Hospitals(folder, coordinator(**changes), LedgerPolicy(math.inf)) as hospitals:
            ends[secure] = run(hospitals).groups["statistics"]
    images = 2 * sum(2 + number for number in range(1, 5))
    for name in ("embedding", "histogram"):
        apart = np.abs(ends[True][name] - ends[False][name]).max()
        assert apart <= images / 2 / STEPS
    assert ends[True]["histogram"].sum() == pytest.approx(images / 2, abs=1e-3)


def test_without_noise_the_gate_sees_the_same_securely_and_plainly(tmp_path: Path) -> None:
    seen: dict[bool, Any] = {}
    for secure in (True, False):
        (tmp_path / str(secure)).mkdir()
        of = coordinator(**OFF, privacy__secure_sum=secure, rounds=1, seed=1)
        with Hospitals(tmp_path / str(secure), of, LedgerPolicy(math.inf)) as hospitals:
            state = of.after(2)  # the networks of made-up answers, the same for both
            request = of.request(state)
            assert request.phase is Phase.GATE
            if secure:
                seen[secure] = hospitals.sum(state).run(np.zeros(GATE_SIZE))
                continue
            answers = [worker.answer(request) for worker in hospitals.workers.values()]
            seen[secure] = np.sum([a.groups["statistics"]["gate"] for a in answers], axis=0)
    images = 2 * sum(2 + number for number in range(1, 5))
    assert np.abs(seen[True] - seen[False]).max() <= images / 2 / STEPS
    assert seen[False][1] > 0
    assert not seen[True][2:].any()


def test_the_sum_is_that_of_the_vectors_under_the_masks(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: list[Any] = []
    real = client.round.noisy_words

    def seen(*arguments: Any) -> Any:
        words.append(real(*arguments))
        return words[-1]

    monkeypatch.setattr(client.site, "noisy_words", seen)
    total = hospitals.sum().run(like(hospitals))
    assert len(words) == 4
    expected = np.sum([word.view(np.int64) for word in words], axis=0)
    assert np.array_equal(total.ravel() * STEPS, expected.astype(float))


def test_the_noise_of_all_sites_is_in_the_sum(tmp_path: Path) -> None:
    """Four shares of σ/√2: the root of 4/2 of what the plan accounts for."""
    changes = {"one_shot__frequencies": 500, "privacy__one_shot_noise_multiplier": 50.0}
    with Hospitals(tmp_path, coordinator(**changes), random_for=Fresh()) as hospitals:
        total = hospitals.sum().run(like(hospitals))
        assert total.std() == pytest.approx(50.0 * np.sqrt(4 / 2), rel=0.05)


def test_labels_are_drawn_by_the_counts_of_the_sum_for_all_sites(hospitals: Hospitals) -> None:
    states: list[FederationState] = []
    run(hospitals, states.append)
    statistics = states[0].groups["statistics"]
    expected = noisy_proportions(hospitals.of.study, statistics["embedding"])
    assert {name for name in statistics if name.startswith(PROPORTIONS)} == {
        f"{PROPORTIONS}{site}" for site in SITES
    }
    for site in SITES:
        assert statistics[f"{PROPORTIONS}{site}"].tolist() == expected


def test_a_whole_run_has_a_receipt_of_every_site_for_every_round(hospitals: Hospitals) -> None:
    end = run(hospitals)
    rounds = hospitals.of.plan.rounds + 3
    assert [(r.round, r.site) for r in end.receipts] == [(n, s) for n in range(rounds) for s in SITES]
    assert [entry["sites"] for entry in end.history] == [list(SITES)] * rounds
    summed = [r for r in end.receipts if r.phase is not Phase.TRAIN]
    assert all(r.local_event == r.event.local for r in summed)
    assert all(r.local_event is None for r in end.receipts if r.phase is Phase.TRAIN)


# Drop-outs


@pytest.mark.parametrize("stage", Stage)
def test_one_site_may_fail_in_any_stage(hospitals: Hospitals, stage: Stage) -> None:
    hospitals.lost = {stage: ("site-3",)}
    attempt = hospitals.sum()
    attempt.run(like(hospitals))
    came = stage in (Stage.CONFIRM, Stage.REVEAL)
    assert attempt.sites == (SITES if came else ("site-1", "site-2", "site-4"))
    assert len(attempt.receipts) == len(attempt.sites)


def test_a_stage_awaits_those_who_were_in_the_one_before(hospitals: Hospitals) -> None:
    def seen(lost: Stage) -> list[list[str]]:
        hospitals.lost, hospitals.requests = {lost: ("site-3",)}, []
        hospitals.gone.clear()
        hospitals.sum(attempt=0 if lost is Stage.ADVERTISE else 1).run(like(hospitals))
        return [sorted(awaited(request)) for request in hospitals.requests]

    everybody, others = list(SITES), ["site-1", "site-2", "site-4"]
    assert seen(Stage.ADVERTISE) == [everybody, *[others] * 4]
    assert seen(Stage.MASK) == [everybody] * 3 + [others] * 2


def test_the_first_stages_need_all_that_a_sum_needs_and_the_last_two_the_threshold() -> None:
    needed = [least_answers(SumRules(10, 2, 1, 6), stage) for stage in Stage]
    assert needed == [8, 8, 8, 6, 6]


@pytest.mark.parametrize("stage", Stage)
def test_one_more_fails_the_round_clearly_and_it_may_be_resumed(hospitals: Hospitals, stage: Stage) -> None:
    hospitals.lost = {stage: ("site-3", "site-4")}
    kept: list[FederationState] = []
    with pytest.raises(QuorumError, match=rf"2 sites are left in stage {stage}.*needed are 3"):
        run(hospitals, kept.append)
    touched = {Stage.MASK: 2, Stage.CONFIRM: 4, Stage.REVEAL: 4}.get(stage, 0)
    assert (kept[-1].round, kept[-1].attempt, len(kept[-1].receipts)) == (0, 1, touched)
    hospitals.lost, hospitals.gone = {}, set()
    of = hospitals.of
    restored = FederationState.restore(kept[-1].groups, kept[-1].header())
    end = federate(of.study, of.task, of.plan, restored, hospitals.exchange, keep=kept.append, cohort=COHORT)
    first = [(r.site, r.repeat) for r in end.receipts if r.round == 0]
    assert len(first) == 4 + touched
    assert [repeat for _, repeat in first[touched:]] == (
        [1] * 4 if touched == 4 else [1, 1, 0, 0] if touched else [0] * 4
    )
    assert kept[-1].attempt == 0


def test_a_round_that_failed_too_often_says_so(hospitals: Hospitals) -> None:
    hospitals.lost = {Stage.CONFIRM: ("site-3", "site-4")}
    for attempt in range(2):
        hospitals.gone.clear()
        with pytest.raises(QuorumError, match="stage confirm"):
            hospitals.sum(attempt=attempt).run(like(hospitals))
    hospitals.gone.clear()
    with pytest.raises(QuorumError, match=r"0 sites are left in stage mask.*max_repeats = 1"):
        hospitals.sum(attempt=2).run(like(hospitals))


# What does not fit


Spoil = Callable[[Answer], Answer]


def only(site: str, stage: Stage, change: Callable[[Any], Answer]) -> Spoil:
    """Spoils the answer of one site in one stage."""

    def spoil(answer: Answer) -> Answer:
        if isinstance(answer, Refusal) or answer.site != site:
            return answer
        at = answer.stage if isinstance(answer, StageReply) else Stage.MASK
        return change(answer) if at is stage else answer

    return spoil


def with_messages(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[StageReply], Answer]:
    return lambda answer: replace(answer, messages=change(dict(answer.messages)))


def resealed(**changes: Any) -> Callable[[Update], Answer]:
    return lambda update: making.sealed(replace(update, **changes))


def charged_otherwise(update: Update) -> Answer:
    event = replace(update.receipt.event, noise_multiplier=99.0)
    return making.sealed(update.sealed(replace(update.receipt, event=event)))


def charged_locally_otherwise(update: Update) -> Answer:
    return making.sealed(update.sealed(replace(update.receipt, local_event=update.receipt.event)))


NOTHING = np.zeros(0, np.uint8)
SPOILED: dict[str, tuple[Stage, Callable[[Any], Answer], str]] = {
    "no keys": (Stage.ADVERTISE, with_messages(lambda m: {}), "not signed by it"),
    "unsigned keys": (
        Stage.ADVERTISE,
        with_messages(lambda m: {"keys": np.zeros(128, np.uint8)}),
        "not signed by it",
    ),
    "a share too few": (
        Stage.SHARE,
        with_messages(lambda m: {k: v for k, v in m.items() if k != "site-1"}),
        "shares for other sites",
    ),
    "a stranger's share": (
        Stage.SHARE,
        with_messages(lambda m: m | {"site-9": NOTHING}),
        "shares for other sites",
    ),
    "a short vector": (
        Stage.MASK,
        resealed(groups={"masked": {"sum": np.zeros(3, np.uint64)}}),
        r"shape \(3,\)",
    ),
    "a vector of floats": (
        Stage.MASK,
        lambda u: resealed(groups={"masked": {"sum": u.groups["masked"]["sum"].astype(float)}})(u),
        "dtype float64",
    ),
    "another group": (Stage.MASK, resealed(groups={"statistics": {}}), "group missing: masked"),
    "another charge": (Stage.MASK, charged_otherwise, "charged another event"),
    "another local charge": (Stage.MASK, charged_locally_otherwise, "charged another event"),
    "messages for a vector": (
        Stage.MASK,
        lambda u: StageReply(u.site, u.round, Stage.MASK, "", {}),
        "no update",
    ),
    "an update for messages": (
        Stage.SHARE,
        lambda a: making.answer(making.federation(), making.federation().state, a.site),
        "an update, expected the messages",
    ),
    "no signature": (Stage.CONFIRM, with_messages(lambda m: {}), "no signature"),
    "a wrong signature": (
        Stage.CONFIRM,
        with_messages(lambda m: {"signature": np.zeros(64, np.uint8)}),
        "no signature",
    ),
    "another session": (Stage.CONFIRM, lambda a: replace(a, nonce="old"), "another session or round"),
    "another round": (Stage.CONFIRM, lambda a: replace(a, round=5), "another session or round"),
    "another stage": (
        Stage.CONFIRM,
        lambda a: replace(a, stage=Stage.REVEAL),
        "messages of reveal in another session",
    ),
    "a short share": (
        Stage.REVEAL,
        with_messages(lambda m: m | {"seed site-1": NOTHING}),
        "not one share of each site",
    ),
    "too many shares": (
        Stage.REVEAL,
        with_messages(lambda m: m | {"key site-1": np.zeros(32, np.uint8)}),
        "not one share of each site",
    ),
}


@pytest.mark.parametrize("what", SPOILED)
def test_what_does_not_fit_is_a_refusal_by_name_and_the_others_go_on(hospitals: Hospitals, what: str) -> None:
    stage, change, reason = SPOILED[what]
    hospitals.spoil = only("site-3", stage, change)
    attempt = hospitals.sum()
    total = attempt.run(like(hospitals))
    assert np.isfinite(total).all()
    refusal = attempt.refusals["site-3"]
    assert "site-3" in refusal.reason
    assert re.search(reason, refusal.reason)


def test_a_vector_that_is_refused_has_left_its_site_and_is_accounted_for(hospitals: Hospitals) -> None:
    stage, change, _ = SPOILED["a short vector"]
    hospitals.spoil = only("site-3", stage, change)
    attempt = hospitals.sum()
    attempt.run(like(hospitals))
    assert sorted(receipt.site for receipt in attempt.receipts) == list(SITES)
    assert attempt.sites == ("site-1", "site-2", "site-4")


def test_strangers_and_second_answers_are_refused(hospitals: Hospitals) -> None:
    def doubled(request: Any) -> Iterator[Answer]:
        for answer in hospitals.exchange(request):
            yield answer
            yield answer
            if isinstance(answer, StageReply):
                yield replace(answer, site="mallory")

    attempt = hospitals.sum()
    attempt.exchange = doubled
    attempt.run(like(hospitals))
    assert set(attempt.refusals) == {"mallory", *SITES}
    assert all("not expected, or a second time" in r.reason for r in attempt.refusals.values())


def test_wrong_shares_make_no_plausible_sum(hospitals: Hospitals) -> None:
    """A site reveals noise for its share of a seed: the mask stays on, and the sum is out of all bounds."""

    def changed(messages: dict[str, Any]) -> dict[str, Any]:
        random = np.random.default_rng(0)
        return {name: random.integers(0, 256, 32, dtype=np.uint8) for name in messages}

    hospitals.spoil = only("site-1", Stage.REVEAL, with_messages(changed))
    with pytest.raises(RoundError, match="beyond all plausible values"):
        hospitals.sum().run(like(hospitals))


def test_messages_of_a_stage_are_no_update_of_a_plain_round(hospitals: Hospitals) -> None:
    plain = making.federation()
    reply = StageReply("site-1", 0, Stage.CONFIRM, "n", {})
    accepted, reasons = plain.accept([reply])  # type: ignore[list-item]
    assert not accepted
    assert "none, but a message of a secure sum" in reasons[0]


def test_without_public_keys_of_the_sites_there_is_no_secure_sum(hospitals: Hospitals) -> None:
    of = hospitals.of
    with pytest.raises(RoundError, match="it needs the public keys of its sites"):
        federate(of.study, of.task, of.plan, of.state, hospitals.exchange, keep=lambda state: None)


def test_every_site_gets_the_same_requests_and_the_server_sees_no_vector(hospitals: Hospitals) -> None:
    hospitals.sum().run(like(hospitals))
    stages = [request.secure.stage for request in hospitals.requests if request.secure]
    assert stages == list(Stage)
    assert len({request.secure.nonce for request in hospitals.requests if request.secure}) == 1
    hospitals.sum(attempt=1).run(like(hospitals))
    assert len({request.secure.nonce for request in hospitals.requests if request.secure}) == 2
    masked = [a.groups["masked"]["sum"] for a in hospitals.answers if isinstance(a, Update)]
    top_bytes = np.concatenate([words.view(np.uint8)[7::8] for words in masked])
    counts = np.bincount(top_bytes, minlength=256)
    expected = len(top_bytes) / 256
    # An unmasked vector has the same top byte everywhere, 0 or 255.
    assert ((counts - expected) ** 2 / expected).sum() < 255 + 6 * 22.6
