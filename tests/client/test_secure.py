"""What a site does in a secure sum: charged once, sealed, replayed, and refused whatever does not fit."""

import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import client.site
from client.round import noisy_words
from client.site import SiteWorker
from medgan_core.errors import BudgetError, IntegrityError, QuorumError, ReceiptError, RefusedError
from medgan_core.messages import RELAYED, Phase, Receipt, Request, Stage, StageReply, SumStage, Update
from medgan_core.privacy.ledger import LedgerPolicy
from medgan_core.privacy.membership import Membership, own_key
from medgan_core.privacy.noise_watch import WIDTH
from medgan_core.privacy.sum_keys import verify_key_of
from medgan_core.privacy.sum_rules import SumRules
from medgan_core.privacy.sum_session import Cohort
from medgan_core.seeds import Seeds
from tests.client.sums import COHORT, KEYS, SITES, Hospitals, coordinator

ONE = "site-1"


@pytest.fixture
def hospitals(tmp_path: Path) -> Iterator[Hospitals]:
    with Hospitals(tmp_path, coordinator()) as opened:
        yield opened


def up_to(hospitals: Hospitals, stage: Stage) -> Request:
    """The request of a stage, which no site has answered; all earlier stages are done."""
    hospitals.lost = {stage: SITES}
    with pytest.raises(QuorumError):
        hospitals.sum().run(np.zeros(hospitals.of.plan.one_shot_size))
    hospitals.gone.clear()
    hospitals.lost = {}
    return hospitals.request(stage)


def staged(request: Request, **changes: Any) -> Request:
    assert request.secure is not None
    return replace(request, secure=replace(request.secure, **changes))


def charges(hospitals: Hospitals, name: str = ONE) -> int:
    return hospitals.kinds(name).count("charge")


def same(left: Any, right: Any) -> bool:
    if isinstance(left, Update):
        return bool(left.digest() == right.digest() and left.receipt == right.receipt)
    fields = [(a.nonce, a.stage, {k: v.tobytes() for k, v in a.messages.items()}) for a in (left, right)]
    return fields[0] == fields[1]


# Charged, sealed, replayed


def test_only_the_stage_with_data_is_charged_and_before_data_are_touched(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def looked(*arguments: Any) -> Any:
        seen.append(hospitals.kinds(ONE))
        return noisy_words(*arguments)

    request = up_to(hospitals, Stage.MASK)
    assert charges(hospitals) == 0
    monkeypatch.setattr(client.site, "noisy_words", looked)
    update = hospitals.ask(ONE, request)
    assert [kinds[-1] for kinds in seen] == ["charge"]
    assert hospitals.kinds(ONE)[-2:] == ["charge", "seal"]
    assert update.receipt.update_digest == update.digest()
    assert update.receipt.request_digest == request.digest()
    assert (update.receipt.event, update.receipt.local_event) == (
        hospitals.of.plan.event(Phase.ONE_SHOT),
        hospitals.of.plan.event(Phase.ONE_SHOT).local,
    )


def test_the_cohort_is_in_the_digest_of_the_request_and_not_in_that_of_the_query(
    hospitals: Hospitals,
) -> None:
    request = up_to(hospitals, Stage.MASK)
    assert request.secure is not None
    fewer = staged(request, cohort={k: v for k, v in request.secure.cohort.items() if k != "site-4"})
    assert fewer.digest() != request.digest()
    assert fewer.query() == request.query() == hospitals.of.request().digest()


def test_the_same_request_replays_the_same_bytes_also_after_a_restart(hospitals: Hospitals) -> None:
    request = up_to(hospitals, Stage.MASK)
    first = hospitals.ask(ONE, request)
    assert same(hospitals.ask(ONE, request), first)
    hospitals.start(ONE)
    assert same(hospitals.ask(ONE, request), first)
    assert charges(hospitals) == 1


def test_a_replay_to_a_smaller_cohort_is_refused_and_not_answered(hospitals: Hospitals) -> None:
    request = up_to(hospitals, Stage.MASK)
    assert request.secure is not None
    hospitals.ask(ONE, request)
    fewer = staged(request, cohort={k: v for k, v in request.secure.cohort.items() if k != "site-4"})
    with pytest.raises(RefusedError):
        hospitals.ask(ONE, fewer)
    assert charges(hospitals) == 1


@pytest.mark.parametrize("stage", [Stage.ADVERTISE, Stage.SHARE, Stage.CONFIRM, Stage.REVEAL])
def test_messages_of_a_stage_are_the_same_when_asked_again(hospitals: Hospitals, stage: Stage) -> None:
    request = up_to(hospitals, stage)
    assert same(hospitals.ask(ONE, request), hospitals.ask(ONE, request))


def test_a_site_that_fails_between_charge_and_seal_draws_fresh_noise_at_no_new_charge(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, drawn = up_to(hospitals, Stage.MASK), []

    def kept(*arguments: Any) -> Any:
        drawn.append(noisy_words(*arguments))
        if len(drawn) == 1:
            raise MemoryError
        return drawn[-1]

    monkeypatch.setattr(client.site, "noisy_words", kept)
    with pytest.raises(MemoryError):
        hospitals.ask(ONE, request)
    hospitals.ask(ONE, request)
    assert hospitals.kinds(ONE)[-3:] == ["charge", "reopened", "seal"]
    assert not np.array_equal(drawn[0], drawn[1])


def test_a_restarted_site_has_lost_its_keys_and_is_not_charged(hospitals: Hospitals) -> None:
    for stage in (Stage.SHARE, Stage.MASK):
        request = up_to(hospitals, stage)
        hospitals.start(ONE)
        with pytest.raises(RefusedError, match="has no such session"):
            hospitals.ask(ONE, request)
    assert charges(hospitals) == 0


def test_a_site_that_was_restarted_after_its_masked_vector_counts_as_dropped_out(
    hospitals: Hospitals,
) -> None:
    request = up_to(hospitals, Stage.CONFIRM)
    hospitals.start(ONE)
    with pytest.raises(RefusedError, match="has no such session"):
        hospitals.ask(ONE, request)


# Repeats


def test_another_attempt_is_a_charge_from_the_hold_with_fresh_keys_and_noise(hospitals: Hospitals) -> None:
    like = np.zeros(hospitals.of.plan.one_shot_size)
    totals = [hospitals.sum(attempt=attempt).run(like) for attempt in range(2)]
    assert not np.array_equal(totals[0], totals[1])
    assert charges(hospitals) == 2
    updates = [a for a in hospitals.answers if isinstance(a, Update) and a.site == ONE]
    assert [update.receipt.repeat for update in updates] == [0, 1]
    assert not np.any(updates[0].groups["masked"]["sum"] == updates[1].groups["masked"]["sum"])
    assert len(list((hospitals.folder / ONE / "sealed").glob("*one_shot*"))) == 2
    with pytest.raises(QuorumError, match="allows max_repeats = 1"):
        hospitals.sum(attempt=2).run(like)
    assert charges(hospitals) == 2


def test_a_study_without_repeats_has_none_whatever_a_site_allows(tmp_path: Path) -> None:
    policy = LedgerPolicy(50.0, trust_secure_sum=True, max_repeats=5)
    with Hospitals(tmp_path, coordinator(privacy__max_repeats=0), policy) as hospitals:
        like = np.zeros(hospitals.of.plan.one_shot_size)
        hospitals.sum().run(like)
        with pytest.raises(QuorumError, match=r"the study has privacy\.max_repeats = 0"):
            hospitals.sum(attempt=1).run(like)
        assert charges(hospitals) == 1


def test_a_joint_step_is_not_repeated_at_the_cost_of_later_steps(tmp_path: Path) -> None:
    of = coordinator(privacy__max_repeats=0, share="gradient", training__discriminator_steps=1)
    with Hospitals(tmp_path, of) as hospitals:
        state, like = of.after(1), np.zeros(of.study.discriminator_size)
        hospitals.sum(state).run(like)
        with pytest.raises(QuorumError, match=r"the study has privacy\.max_repeats = 0"):
            hospitals.sum(state, attempt=1).run(like)
        assert charges(hospitals) == 1


# What does not fit


def test_what_is_summed_leaves_in_no_other_way(hospitals: Hospitals) -> None:
    with pytest.raises(RefusedError, match="one_shot leaves this site in secure sums alone"):
        hospitals.workers[ONE].answer(hospitals.of.request())
    with pytest.raises(RefusedError, match="leaves this site in secure sums alone"):
        hospitals.workers[ONE].answer(up_to(hospitals, Stage.MASK))
    assert charges(hospitals) == 0


def test_a_phase_that_is_not_summed_is_no_secure_sum(hospitals: Hospitals) -> None:
    advertise = up_to(hospitals, Stage.ADVERTISE)
    with pytest.raises(RefusedError, match="no secure sum for train"):
        hospitals.ask(ONE, replace(advertise, phase=Phase.TRAIN, round=1))
    with pytest.raises(RefusedError, match="no secure sum for one_shot"):
        hospitals.ask(ONE, replace(advertise, secure=None))


def test_a_plan_without_secure_sum_has_none(tmp_path: Path) -> None:
    with Hospitals(tmp_path, coordinator(privacy__secure_sum=False)) as plain:
        stage = SumStage(Stage.ADVERTISE, 0, "n", "q", COHORT.to_json())
        with pytest.raises(RefusedError, match="the plan has no secure sum"):
            plain.ask(ONE, replace(plain.of.request(), secure=stage))


@pytest.mark.parametrize("change", [{"run": "run-2"}, {"plan": "another"}])
def test_another_run_or_plan_is_refused(hospitals: Hospitals, change: dict[str, str]) -> None:
    request: Any = replace(up_to(hospitals, Stage.ADVERTISE), **change)  # type: ignore[arg-type]
    with pytest.raises(IntegrityError, match="another"):
        hospitals.ask(ONE, request)


def test_another_query_than_the_sites_agreed_on_is_refused_uncharged(hospitals: Hospitals) -> None:
    request = up_to(hospitals, Stage.MASK)
    other = replace(request, groups={**request.groups, "classifier": {"w": np.ones(3)}})
    with pytest.raises(RefusedError, match="not what the sites agreed to sum"):
        hospitals.ask(ONE, other)
    with pytest.raises(RefusedError, match="no such session"):
        hospitals.ask(ONE, staged(other, query=other.query()))
    assert charges(hospitals) == 0


@pytest.mark.parametrize("change", [{"attempt": 7}, {"nonce": "another"}])
def test_a_request_of_another_session_is_refused_uncharged(
    hospitals: Hospitals, change: dict[str, Any]
) -> None:
    request = up_to(hospitals, Stage.MASK)
    with pytest.raises(RefusedError, match="no such session"):
        hospitals.ask(ONE, staged(request, **change))
    assert charges(hospitals) == 0


def test_shares_that_do_not_fit_are_refused_uncharged(hospitals: Hospitals) -> None:
    request = up_to(hospitals, Stage.MASK)
    name = next(name for name in request.groups[RELAYED] if name.endswith('"site-1"]'))
    spoiled = request.groups[RELAYED][name].copy()
    spoiled[0] ^= 1
    for relayed in ({**request.groups[RELAYED], name: spoiled}, {"no pair": spoiled}, {}):
        with pytest.raises(RefusedError, match="secure sum, shares"):
            hospitals.ask(ONE, replace(request, groups={RELAYED: relayed}))
    assert charges(hospitals) == 0
    hospitals.ask(ONE, request)


def test_a_second_masked_vector_of_one_session_is_refused(hospitals: Hospitals) -> None:
    """Two vectors under the same masks: their difference would be the server's to see."""
    request = up_to(hospitals, Stage.MASK)
    hospitals.ask(ONE, request)
    relayed = {name: a for name, a in request.groups[RELAYED].items() if "site-4" not in name}
    with pytest.raises(RefusedError, match="mask was asked of a site that has finished mask"):
        hospitals.ask(ONE, replace(request, groups={RELAYED: relayed}))
    assert charges(hospitals) == 1


def test_a_second_list_of_survivors_is_refused(hospitals: Hospitals) -> None:
    request = up_to(hospitals, Stage.CONFIRM)
    hospitals.ask(ONE, request)
    with pytest.raises(RefusedError, match="confirm was asked of a site that has finished confirm"):
        hospitals.ask(ONE, staged(request, survivors=SITES[:3]))


def test_keys_are_made_once_in_a_session_and_a_new_session_forgets_the_old_one(
    hospitals: Hospitals,
) -> None:
    old = up_to(hospitals, Stage.SHARE)
    first = hospitals.request(Stage.ADVERTISE)
    hospitals.ask(ONE, old)
    with pytest.raises(RefusedError, match="keys are made once"):
        hospitals.ask(ONE, first)
    up_to(hospitals, Stage.SHARE)
    with pytest.raises(RefusedError, match="no such session"):
        hospitals.ask(ONE, old)


# The cohort


def test_a_key_that_is_not_the_pinned_one_is_refused_by_name(hospitals: Hospitals) -> None:
    request = up_to(hospitals, Stage.ADVERTISE)
    other = verify_key_of(bytes(32)).hex()
    for cohort, reason in (
        ({**COHORT.to_json(), "site-3": other}, "the key of site site-3 is not the one pinned here"),
        ({**COHORT.to_json(), "site-9": other}, "site-9 is not among the sites pinned here"),
        ({name: key for name, key in COHORT.to_json().items() if name != ONE}, "site-1 is not in the cohort"),
        ({name: COHORT.to_json()[name] for name in SITES[:2]}, "a cohort of 2 sites, needed are 3"),
        ({**COHORT.to_json(), "site-3": "no hex"}, "no hex"),
    ):
        with pytest.raises(RefusedError, match=reason):
            hospitals.ask(ONE, staged(request, cohort=cohort))


def test_an_approval_is_of_the_pinned_keys(hospitals: Hospitals) -> None:
    hospitals.start(ONE).approve()
    swapped = Cohort({**COHORT.keys, "site-2": verify_key_of(bytes(32))})
    with pytest.raises(ReceiptError, match="approved at this site with another plan"):
        hospitals.start(ONE, swapped).approve()


def test_a_site_without_pinned_keys_takes_no_part(hospitals: Hospitals) -> None:
    worker = hospitals.workers[ONE]
    bare = SiteWorker(worker.study, worker.site, "run-1", worker.ledger, worker.folder, worker.random_for)
    for act in (bare.approve, lambda: bare.take_part(up_to(hospitals, Stage.ADVERTISE), {})):
        with pytest.raises(RefusedError, match="no keys of the cohort are pinned"):
            act()


def test_a_site_s_own_pinned_key_is_its_own() -> None:
    rules = SumRules.of(4, 1, 1)
    Membership(ONE, KEYS[ONE], COHORT).check(rules)
    with pytest.raises(RefusedError, match="the key pinned for site site-1 is not its own"):
        Membership(ONE, KEYS["site-2"], COHORT).check(rules)
    assert KEYS[ONE].hex() not in repr(Membership(ONE, KEYS[ONE], COHORT))
    assert str(KEYS[ONE]) not in repr(Membership(ONE, KEYS[ONE], COHORT))


def test_a_long_term_key_is_made_once_and_read_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secure-sum.key"
    key = own_key(path)
    assert own_key(path) == key
    assert own_key(tmp_path / "another.key") != key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(b"short")
    with pytest.raises(IntegrityError, match=r"^secure-sum\.key is damaged"):
        own_key(path)
    with pytest.raises(IntegrityError, match="check the folder"):
        own_key(tmp_path / "missing" / "key")


def test_a_policy_that_does_not_trust_counts_the_local_epsilon(tmp_path: Path) -> None:
    of = coordinator()
    between = (of.plan.epsilon() + of.plan.local_epsilon()) / 2
    holds = of.plan.holds("training")
    assert len(holds) == len(of.plan.events("training")) + 1
    with Hospitals(tmp_path, of, LedgerPolicy(50.0, trust_secure_sum=True)):
        pass
    other = tmp_path / "careful"
    other.mkdir()
    with (
        pytest.raises(BudgetError, match="without trust in secure sums"),
        Hospitals(other, of, LedgerPolicy(between)),
    ):
        pass


# What is under the mask


@pytest.mark.parametrize("number", [0, 3, 4])
def test_a_site_adds_its_share_of_the_noise_to_its_sum_on_the_grid(hospitals: Hospitals, number: int) -> None:
    of, worker = hospitals.of, hospitals.workers[ONE]
    phase = of.plan.phase(number)
    assert phase is not None
    asked = {3: ("classifier_one_shot", "classifier_refined"), 4: ("classifier",)}.get(number, ())
    groups = {name: of_classifier(worker) for name in asked}
    request = Request("run-1", number, phase, of.plan.digest(), groups)

    class Asked:
        def __init__(self) -> None:
            self.asked: list[tuple[int, float]] = []

        def normal(self, count: int) -> Any:
            raise AssertionError("continuous noise in a secure sum")

        def uniform(self, count: int) -> Any:
            raise AssertionError("coins in a secure sum")

        def discrete(self, count: int, deviation: float) -> Any:
            self.asked.append((count, deviation))
            return np.full(count, 5, np.int64)

    told = Asked()
    arguments = (worker.study, worker.task, of.plan, worker.site, request, Seeds(0))
    words = noisy_words(*arguments, told)
    event = of.plan.event(phase)
    assert told.asked == [(event.dimension + WIDTH, event.share_deviation)]
    assert words.dtype == np.uint64
    silent = Asked()
    silent.discrete = lambda count, deviation: np.zeros(count, np.int64)  # type: ignore[method-assign]
    assert set((words - noisy_words(*arguments, silent)).tolist()) == {5}


def of_classifier(worker: SiteWorker) -> Any:
    from medgan_core.evaluate.utility import make_classifier
    from medgan_core.tensors import state_of

    return state_of(make_classifier(1, 2))


def test_a_source_without_discrete_noise_is_none_for_a_secure_sum(hospitals: Hospitals) -> None:
    worker = hospitals.workers[ONE]

    class Continuous:
        def normal(self, count: int) -> Any:
            return None

        def uniform(self, count: int) -> Any:
            return None

    with pytest.raises(TypeError, match="discrete noise"):
        noisy_words(
            worker.study,
            worker.task,
            worker.plan,
            worker.site,
            hospitals.of.request(),
            Seeds(0),
            Continuous(),
        )


def test_the_kept_session_holds_what_a_stage_reply_does_not(hospitals: Hospitals) -> None:
    """No private key and no share of another site's secret leaves in a message of its own."""
    request = up_to(hospitals, Stage.MASK)
    hospitals.ask(ONE, request)
    sent = [a for a in hospitals.answers if isinstance(a, StageReply) and a.site == ONE]
    before = up_to(hospitals, Stage.MASK)
    assert before.digest() != request.digest()
    kept = hospitals.kept[ONE]["secure sum"]
    for reply in sent:
        for message in reply.messages.values():
            assert message.tobytes().hex() not in kept.split('"party"')[1]


def test_receipts_of_sums_survive_the_wire(hospitals: Hospitals) -> None:
    receipt = hospitals.ask(ONE, up_to(hospitals, Stage.MASK)).receipt
    assert Receipt.from_json(receipt.to_json()) == receipt
