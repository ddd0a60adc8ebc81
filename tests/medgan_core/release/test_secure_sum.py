"""What a release under secure sum says of trust, and that it is checked again from the receipts."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medgan_core.errors import RefusedError, ReleaseError
from medgan_core.messages import Phase, Receipt
from medgan_core.privacy.accounting import ACCOUNTANT_OF_SUMS, at_sites, epsilon
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.release.bundle import build_release
from medgan_core.release.card_text import markdown
from medgan_core.release.spending import (
    account_epsilon,
    check_receipts,
    release_epsilon,
    release_local_epsilon,
    spending,
)
from medgan_core.release.verify import verify_release
from tests.medgan_core.release.making import CARD, METRICS, receipts_of, rewrite, study_with, weights

SITES = ("east", "north", "south", "west")
SECURE = {"sites.count": 4, "privacy.secure_sum": True, "privacy.drop": 1, "evaluation.epsilon": 1.0}
Receipts = list[Receipt]


@pytest.fixture(scope="module")
def plan() -> PrivacyPlan:
    return PrivacyPlan.of(study_with(SECURE), CARD.unit)


@pytest.fixture(scope="module")
def receipts(plan: PrivacyPlan) -> Receipts:
    return of_sums(plan)


def of_sums(plan: PrivacyPlan) -> Receipts:
    local = {name: epsilon([e.local for e in plan.events(name)], 1e-5) for name in ("training", "held_out")}
    return [
        replace(r, local_event=r.event.local, local_spent=local[r.account], query="q")
        if plan.summed(r.phase)
        else r
        for r in receipts_of(plan, SITES)
    ]


@pytest.fixture(scope="module")
def _built(plan: PrivacyPlan, receipts: Receipts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = study_with(SECURE)
    folder = tmp_path_factory.mktemp("secure") / "release"
    return build_release(folder, study, CARD, plan, weights(study), receipts, (0.3, 0.7), METRICS).folder


@pytest.fixture
def folder(_built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(_built, tmp_path / "release"))


# The card


def test_the_card_gives_epsilon_with_and_without_trust(folder: Path, plan: PrivacyPlan) -> None:
    card = verify_release(folder)
    assert card.epsilon == plan.epsilon()
    assert card.local_epsilon == plan.local_epsilon()
    assert card.local_epsilon is not None
    assert card.local_epsilon > card.epsilon
    body = json.loads((folder / "card.json").read_text())
    assert body["accountant"] == ACCOUNTANT_OF_SUMS
    for site in body["sites"]:
        local = [site[f"local_epsilon_{name}"] for name in ("training", "held_out")]
        assert local == [
            epsilon([event.local for event in plan.events(name)], 1e-5) for name in ("training", "held_out")
        ]
        assert site["local_epsilon"] == max(local) > site["epsilon"]


def test_the_card_names_who_must_not_work_together(folder: Path) -> None:
    body = json.loads((folder / "card.json").read_text())
    words = (folder / "card.md").read_text()
    for text in (body["trust_model"], words):
        for part in (
            "Secure sum: of the one-shot query, gate and evaluation",
            "at most one site of the 4",
            "collude = 1",
            "drop = 1",
            "threshold = 3",
            "local epsilon",
            "In the training rounds every site adds the full noise itself",
        ):
            assert part in text
    assert "| who may work together | the coordinator and at most 1 of the sites |" in words
    assert "| sites of a secure sum | 4, of which 1 may drop out |" in words
    assert "| sites needed to open a sum | 3 |" in words
    assert "local ε of this run" in words
    assert "(without trust" in words


def test_without_secure_sum_a_card_says_nothing_of_trust(tmp_path: Path) -> None:
    study = study_with()
    plain = PrivacyPlan.of(study, CARD.unit)
    release = build_release(
        tmp_path / "r", study, CARD, plain, weights(study), receipts_of(plain), (), METRICS
    )
    assert release.card.local_epsilon is None
    assert verify_release(release.folder).local_epsilon is None
    words = markdown(release.card)
    assert "without trust" not in words
    assert "local ε" not in words


def test_a_release_without_privacy_says_so_under_secure_sum_too(tmp_path: Path) -> None:
    study = study_with(SECURE | {"privacy.mode": "off"})
    off = PrivacyPlan.of(study, CARD.unit)
    folder = build_release(tmp_path / "r", study, CARD, off, weights(study), of_sums(off), (), METRICS).folder
    assert verify_release(folder).privacy == "NOT PRIVATE"
    assert "NOT PRIVATE" in (folder / "card.md").read_text().splitlines()[1]


# Checked again, offline


Edit = Callable[[Any], Any]


def site_of(change: dict[str, Any]) -> Edit:
    return lambda body: body | {"sites": [body["sites"][0] | change, *body["sites"][1:]]}


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda body: body | {"local_epsilon": 1.0}, "local_epsilon is 1.0, by the receipts"),
        (lambda body: body | {"local_epsilon": None}, "local_epsilon is None, by the receipts"),
        (lambda body: body | {"epsilon": 1.0}, "epsilon is 1.0, by the receipts"),
        (site_of({"local_epsilon": 1.0}), "local_epsilon of east is 1.0"),
        (site_of({"local_epsilon_training": 1.0}), "local_epsilon_training of east is 1.0"),
        (lambda body: body | {"trust_model": "Nobody is trusted."}, "trust_model does not say sum_collude"),
        (
            lambda body: (
                body | {"trust_model": body["trust_model"].replace("threshold = 3", "threshold = 4")}
            ),
            "trust_model does not say sum_threshold",
        ),
        (
            lambda body: body | {"plan": body["plan"] | {"sum_collude": 2}},
            r"^card\.json: its plan cannot be: threshold = 3",
        ),
    ],
)
def test_a_card_that_says_another_thing_is_found_out(folder: Path, edit: Edit, reason: str) -> None:
    rewrite(folder, "card.json", edit)
    with pytest.raises(ReleaseError, match=reason):
        verify_release(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"local_event": None}, "locally: the plan has Event"),
        ({"local_spent": None}, "local epsilon None"),
        ({"local_spent": 0.1}, r"local epsilon 0\.1: expected"),
        ({"repeat": 2}, "repeat 2: the plan has fewer"),
        ({"repeat": -1}, "repeat -1"),
    ],
)
def test_a_receipt_that_does_not_hold_both_events_is_refused(
    plan: PrivacyPlan, receipts: Receipts, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RefusedError, match=reason):
        check_receipts([replace(receipts[0], **change), *receipts[1:]], plan, 4)


def test_a_training_receipt_has_no_local_event_and_no_repeat(plan: PrivacyPlan, receipts: Receipts) -> None:
    [at, *_] = [i for i, r in enumerate(receipts) if r.phase is Phase.TRAIN]
    changed = list(receipts)
    changed[at] = replace(receipts[at], local_event=receipts[at].event, local_spent=1.0)
    with pytest.raises(RefusedError, match="locally: the plan has None"):
        check_receipts(changed, plan, 4)
    changed[at] = replace(receipts[at], repeat=1)
    with pytest.raises(RefusedError, match="repeat 1: the plan has fewer"):
        check_receipts(changed, plan, 4)


def test_verify_reads_the_local_event_of_receipts_json(folder: Path) -> None:
    def weaker(body: Any) -> Any:
        event = body[0]["local_event"] | {"noise_multiplier": 9.0}
        return [body[0] | {"local_event": event}, *body[1:]]

    rewrite(folder, "receipts.json", weaker)
    with pytest.raises(ReleaseError, match=r"^receipts\.json: .* locally"):
        verify_release(folder)


def test_a_sum_needs_the_receipts_of_its_survivors_and_a_training_round_its_quorum(
    plan: PrivacyPlan, receipts: Receipts
) -> None:
    def without(*gone: tuple[str, int]) -> Receipts:
        return [r for r in receipts if (r.site, r.round) not in gone]

    check_receipts(without(("west", 0), ("east", 2)), plan, 4)
    with pytest.raises(RefusedError, match="round 0 has receipts of 2 sites, needed are 3"):
        check_receipts(without(("west", 0), ("east", 0)), plan, 4)
    with pytest.raises(RefusedError, match="round 1 has receipts of 3 sites, needed are 4"):
        check_receipts(without(("west", 1)), plan, 4)


# Repeats


def repeated(receipts: Receipts, keep_first: bool) -> Receipts:
    first = [r for r in receipts if r.round == 0]
    rest = [r for r in receipts if r.round > 0]
    again = [replace(r, repeat=1, local_spent=99.0) for r in first]
    return [*(first if keep_first else []), *again, *rest]


@pytest.mark.parametrize("keep_first", [True, False])
def test_a_repeated_sum_counts_as_often_as_it_was_charged(
    plan: PrivacyPlan, receipts: Receipts, keep_first: bool
) -> None:
    """Also where the first receipts never came: the later ones tell of them."""
    twice = repeated(receipts, keep_first)
    check_receipts(twice, plan, 4)
    events = (plan.event(Phase.ONE_SHOT), *plan.events("training"))
    expected = epsilon(at_sites(events, 1), plan.delta)
    assert release_epsilon(twice, plan) == expected > plan.epsilon()
    assert spending(twice, plan)[0].epsilon_training == expected
    assert account_epsilon(twice, plan, "east", "training") == expected
    local = account_epsilon(twice, plan, "east", "training", local=True)
    assert release_local_epsilon(twice, plan) == local > plan.local_epsilon()
    assert spending(twice, plan)[0].local_epsilon_training == local


def test_the_same_repeat_twice_is_refused(plan: PrivacyPlan, receipts: Receipts) -> None:
    with pytest.raises(RefusedError, match="there is another receipt"):
        check_receipts([*receipts, receipts[0]], plan, 4)


def test_a_verified_release_prints_both(folder: Path) -> None:
    lines = "\n".join(verify_release(folder).lines)
    assert re.search(r"epsilon without trust in secure sums recomputed for 4 sites", lines)
    assert "at most 1 of 4 sites may help the coordinator" in lines
