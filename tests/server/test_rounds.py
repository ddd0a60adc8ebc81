from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from weakref import WeakSet

import numpy as np
import pytest

from medgan_core.errors import QuorumError, RoundError
from medgan_core.messages import Request, Update
from server.rounds import Refusal, accept, federate
from server.spill import Spill
from server.state import FederationState, server_step
from tests.server.making import SITES, Federation, answer, federation, with_groups


@pytest.fixture(scope="module")
def of() -> Federation:
    """Two of three sites are enough."""
    return federation(sites__quorum=2)


def poisoned(update: Update) -> Update:
    """NaN in the first tensor."""
    (group, arrays), *_ = update.groups.items()
    (name, array), *_ = arrays.items()
    return with_groups(update, {**update.groups, group: {**arrays, name: np.full_like(array, np.nan)}})


class Kept:
    """A coordinator's disk."""

    def __init__(self, of: Federation) -> None:
        self.of = of
        self.states = [of.state]
        self.refusals: list[Refusal] = []

    @property
    def latest(self) -> FederationState:
        return self.states[-1]

    def run(
        self,
        answers: Callable[[list[Update]], Iterable[Update | Refusal]] = lambda updates: updates,
        spill: Path | None = None,
    ) -> FederationState:
        """Go on from the last kept state; `answers` may change what the sites say."""

        def exchange(request: Request) -> Iterable[Update | Refusal]:
            assert request.digest() == self.of.request(self.latest).digest()
            return answers(self.of.answers(self.latest))

        return federate(
            self.of.study,
            self.of.task,
            self.of.plan,
            self.latest,
            exchange,
            keep=self.states.append,
            refused=self.refusals.append,
            spill=spill,
        )


def test_a_run_keeps_every_state_before_the_next_request(of: Federation) -> None:
    kept = Kept(of)
    assert kept.run() is kept.latest
    assert [state.round for state in kept.states] == [0, 1, 2, 3, 4]
    assert kept.refusals == []
    assert kept.run() is kept.latest  # a finished run asks nothing
    assert len(kept.states) == 5


def test_with_the_quorum_met_a_round_goes_on_without_the_bad_site(of: Federation) -> None:
    kept = Kept(of)
    kept.run(lambda updates: [updates[0], poisoned(updates[1]), updates[2]])
    assert {refusal.site for refusal in kept.refusals} == {"site-2"}
    assert all("holds NaN" in refusal.reason for refusal in kept.refusals)
    assert all(entry["sites"] == ["site-1", "site-3"] for entry in kept.latest.history)
    # what a site was charged for has left it, refused or not, so the release accounts for it
    assert sorted(r.site for r in kept.latest.receipts) == [f"site-{s}" for s in (1, 2, 3) for _ in range(4)]


def test_a_site_that_says_no_is_a_refusal_and_no_error(of: Federation) -> None:
    kept = Kept(of)
    kept.run(lambda updates: [*updates[:2], Refusal("site-3", "not approved")])
    assert {(refusal.site, refusal.reason) for refusal in kept.refusals} == {("site-3", "not approved")}


def test_below_the_quorum_the_run_fails_by_name_and_the_last_state_stays(of: Federation) -> None:
    kept = Kept(of)

    def worse(updates: list[Update]) -> list[Update | Refusal]:
        if kept.latest.round < 2:
            return [*updates]
        return [poisoned(updates[0]), updates[1], Refusal("site-3", "not approved")]

    with pytest.raises(QuorumError) as caught:
        kept.run(worse)
    said = str(caught.value)
    assert said.startswith("round 2: 1 acceptable updates, the study needs 2 (update of site-1 in round 2: ")
    assert "site-3: not approved" in said
    assert "resume" in said
    assert caught.value.exit_code == 1
    assert kept.latest.round == 2
    assert kept.run().round == 4  # resumed when the sites are mended


def test_what_left_a_site_in_a_round_that_failed_is_accounted_for_once(of: Federation) -> None:
    kept = Kept(of)
    with pytest.raises(QuorumError):
        kept.run(lambda updates: [updates[0], poisoned(updates[1])])
    assert (kept.latest.round, kept.latest.history) == (0, ())
    assert [receipt.site for receipt in kept.latest.receipts] == ["site-1", "site-2"]
    for _ in range(2):  # asked again, site-1 replays its answer or is gone
        with pytest.raises(QuorumError):
            kept.run(lambda updates: updates[:1])
    kept.run(lambda updates: updates[1:])
    by_round = [sorted(r.site for r in kept.latest.receipts if r.round == number) for number in range(4)]
    assert by_round == [[*SITES], *[["site-2", "site-3"]] * 3]
    assert kept.latest.history[0]["sites"] == ["site-2", "site-3"]


def huge(update: Update) -> Update:
    """A finite number that float32 has no room for in its first tensor."""
    (group, arrays), *_ = update.groups.items()
    (name, array), *_ = arrays.items()
    changed = array.copy()
    changed.flat[0] = 1e300 if array.dtype == np.float64 else np.finfo(array.dtype).max
    return with_groups(update, {**update.groups, group: {**arrays, name: changed}})


def test_a_statistic_beyond_all_patients_is_a_refusal_and_the_round_goes_on(of: Federation) -> None:
    kept = Kept(of)
    kept.run(lambda us: [huge(us[0]), *us[1:]] if kept.latest.round in (0, 3) else us)
    assert {refusal.site for refusal in kept.refusals} == {"site-1"}
    assert all("at most" in refusal.reason for refusal in kept.refusals)
    assert [len(entry["sites"]) for entry in kept.latest.history] == [2, 3, 3, 2]


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_a_group_that_is_not_finite_is_never_kept_and_its_receipts_are() -> None:
    of = federation(aggregation__server_learning_rate=4.0)
    kept = Kept(of)
    with pytest.raises(RoundError, match=r"round 1: (generator|average).* would hold NaN or infinity"):
        kept.run(lambda us: us if kept.latest.round == 0 else [huge(update) for update in us])
    assert (kept.latest.round, len(kept.latest.receipts)) == (1, 6)
    assert all(np.isfinite(a).all() for arrays in kept.latest.groups.values() for a in arrays.values())


def test_nobody_answers(of: Federation) -> None:
    with pytest.raises(QuorumError, match=r"0 acceptable updates, the study needs 2 \(no answer\)"):
        Kept(of).run(lambda updates: [])


def test_without_a_quorum_all_sites_are_needed() -> None:
    with pytest.raises(QuorumError, match="2 acceptable updates, the study needs 3"):
        Kept(federation()).run(lambda updates: updates[:2])


def test_updates_are_sorted_by_site_whoever_is_first(of: Federation) -> None:
    accepted, refused = of.accept(of.answers(of.state)[::-1])
    assert accepted == list(SITES)
    assert refused == []


def test_a_site_of_another_run_is_refused_by_name(of: Federation) -> None:
    accepted, refused = of.accept([answer(of, of.state, "stranger"), answer(of, of.state, "site-1")])
    assert accepted == ["site-1"]
    assert refused == ["update of stranger in round 0: no site of this run"]


def test_a_second_answer_is_refused_and_the_first_one_counts(of: Federation) -> None:
    first, second = answer(of, of.state, "site-1", 1), answer(of, of.state, "site-1", 2)
    accepted, refused = of.accept([first, second, first])
    assert accepted == ["site-1"]
    assert refused == ["update of site-1 in round 0: answered twice"] * 2


def test_a_site_cannot_answer_for_another(of: Federation) -> None:
    update = answer(of, of.state, "site-1")
    accepted, refused = of.accept([replace(update, site="site-2")])
    assert accepted == []
    assert refused == ["update of site-2 in round 0: its receipt is of another site or round"]


# Updates on disk


def test_a_run_over_disk_is_the_run_in_memory_bit_by_bit(of: Federation, tmp_path: Path) -> None:
    kept = Kept(of)
    kept.run(lambda updates: updates[::-1], tmp_path / "arrivals")
    for before, after in zip(kept.states, kept.states[1:], strict=False):
        plain = server_step(of.study, of.task, before, of.answers(before))
        assert plain.header() == after.header()
        assert {g: {n: a.tobytes() for n, a in arrays.items()} for g, arrays in plain.groups.items()} == {
            g: {n: a.tobytes() for n, a in arrays.items()} for g, arrays in after.groups.items()
        }
    assert not (tmp_path / "arrivals").exists()


def test_one_update_at_a_time_is_in_memory(of: Federation, tmp_path: Path) -> None:
    alive: WeakSet[Update] = WeakSet()
    most: list[int] = []

    def come() -> Iterator[Update]:
        for number, site in enumerate(SITES):
            most.append(len(alive))
            update = answer(of, of.state, site, number)
            alive.add(update)
            yield update
            del update

    request = of.request(of.state)
    with Spill(tmp_path / "arrivals") as spill:
        updates, refusals = accept(of.study, of.task, of.plan, of.state, request, come(), spill.keep)
        assert len(list(spill.folder.iterdir())) == len(updates) == 3
    assert most == [0, 0, 0]
    assert refusals == []


def test_a_site_that_is_refused_is_in_no_sum(of: Federation, tmp_path: Path) -> None:
    without, with_bad = Kept(of), Kept(of)
    without.run(lambda updates: [updates[0], updates[2]])
    with_bad.run(lambda updates: [updates[2], poisoned(updates[1]), updates[0]], tmp_path / "arrivals")
    for one, other in zip(without.states, with_bad.states, strict=True):
        assert all(
            array.tobytes() == other.groups[group][name].tobytes()
            for group, arrays in one.groups.items()
            for name, array in arrays.items()
        )


def test_nothing_stays_on_disk_when_a_run_fails(of: Federation, tmp_path: Path) -> None:
    with pytest.raises(QuorumError):
        Kept(of).run(lambda updates: updates[:1], tmp_path / "arrivals")
    assert not list(tmp_path.iterdir())


def test_an_update_that_moved_too_far_is_refused_by_name_in_training_alone() -> None:
    bounded = federation(sites__quorum=2, aggregation__norm_bound=1000.0)
    kept = Kept(bounded)

    def far(updates: list[Update]) -> list[Update]:
        if kept.latest.round != 1:  # sums of the other rounds have no weights to be near to
            return updates
        groups = {g: {n: a + 1000 for n, a in arrays.items()} for g, arrays in updates[0].groups.items()}
        return [with_groups(updates[0], groups), *updates[1:]]

    kept.run(far)
    (refusal,) = kept.refusals
    assert refusal.site == "site-1"
    assert refusal.reason.startswith("update of site-1 in round 1: moved by ")
    assert refusal.reason.endswith("aggregation.norm_bound is 1000")
