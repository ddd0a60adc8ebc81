"""Every row of the check: what passes, what fails, what cannot be told, and what was not asked."""

from collections.abc import Mapping
from dataclasses import replace
from math import nan
from typing import Any

import pytest

from medgan_core.errors import ReleaseError
from medgan_core.messages import Receipt
from medgan_core.release.bundle import Release
from medgan_core.release.card import ReleaseCard
from medgan_core.release.check.judge import judge
from medgan_core.release.check.policy import Floors, Policy
from medgan_core.release.check.result import CheckResult, SampleFigures, worst
from tests.medgan_core.release.check.making import TWIN, attack_metrics, histogram, metrics_with
from tests.medgan_core.release.making import CARD, Parties, build

SOUND = SampleFigures(
    images=64,
    finite=True,
    lowest=-1.0,
    highest=0.9,
    constant=0.0,
    difference=(0.16, 0.15),
    duplicates=0.0,
    repeats=True,
)
HELD = metrics_with(attacks=attack_metrics(0.52), histogram=histogram({0: (80, 20), 1: (300, 60)}))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return Parties().build(tmp_path_factory.mktemp("made") / "release", metrics=HELD)


def found(
    release: Release,
    policy: Policy | None = None,
    samples: SampleFigures | None = SOUND,
    twin: Mapping[str, float] = TWIN,
    receipts: tuple[Receipt, ...] | None = None,
    **card: Any,
) -> CheckResult:
    changed = release.card.model_copy(update=card)
    said = receipts or release.receipts
    return judge(changed, said, policy or Policy(), samples, twin, checked="2026-01-01T00:00:00+00:00")


def verdict(result: CheckResult, name: str) -> str:
    return next(row.verdict for row in result.rows if row.name == name)


def test_a_sound_release_passes_and_every_row_is_told(made: Release) -> None:
    result = found(made)
    assert result.verdict == "pass"
    assert {row.verdict for row in result.rows} <= {"pass", "not asked"}
    assert result.members == pytest.approx(4000, rel=1e-3)
    assert result.held_out == pytest.approx(1000, rel=1e-3)
    assert [row.name for row in result.attacks] == ["discriminator", "nearest"]
    assert [row.twin for row in result.attacks] == [0.9, 0.8]
    assert all(row.low < 0.52 < row.high for row in result.attacks)
    assert [group.patients for group in result.subgroups] == [100, 360]
    assert result.subgroups[1].right == pytest.approx(300 / 360)
    assert all(not row.todo for row in result.rows if row.verdict == "pass")


@pytest.mark.parametrize(
    ("attacks", "twin", "expected"),
    [
        (attack_metrics(0.9), TWIN, "fail"),
        (attack_metrics(0.9), {}, "fail"),
        (attack_metrics(0.52), {}, "inconclusive"),
        (attack_metrics(0.52), {"discriminator": 0.6, "nearest": 0.5}, "inconclusive"),
        (attack_metrics(0.52, members=40, held_out=10), TWIN, "inconclusive"),
        (attack_metrics(0.52, noise=60.0), TWIN, "inconclusive"),
        (None, TWIN, "inconclusive"),
    ],
)
def test_the_attacks_decide(made: Release, attacks: object, twin: Mapping[str, float], expected: str) -> None:
    told = {name: value for name, value in HELD.items() if name != "attacks"}
    result = found(made, twin=twin, metrics=told | ({} if attacks is None else {"attacks": attacks}))
    assert result.verdict == expected
    [row] = [row for row in result.rows if row.name == "attacks on the generator"]
    assert row.verdict == expected
    assert row.todo


@pytest.mark.parametrize(
    "wrong",
    [
        {"names": ["one"]},
        {"members": [[1.0]]},
        {"noise_members": -1.0},
        {"held_out": "many"},
    ],
)
def test_cells_that_cannot_be_are_named(made: Release, wrong: Mapping[str, Any]) -> None:
    with pytest.raises(ReleaseError, match=r"^card.json: "):
        found(made, metrics={**HELD, "attacks": {**attack_metrics(0.5), **wrong}})
    without = {name: value for name, value in attack_metrics(0.5).items() if name != "members"}
    with pytest.raises(ReleaseError, match=r"^card.json: "):
        found(made, metrics={**HELD, "attacks": without})


def test_a_histogram_that_cannot_be_is_named(made: Release) -> None:
    for wrong in ([[1.0]], "many", [[[float("nan")] * 10] * 2] * 2):
        with pytest.raises(ReleaseError, match=r"^card.json: its histogram"):
            found(made, metrics={**HELD, "histogram": wrong})


def test_epsilon_is_that_of_the_receipts_and_the_accounts_count_as_well(made: Release) -> None:
    assert verdict(found(made, Policy(max_epsilon=1.0)), "ε of this run") == "fail"
    whole = "ε of the accounts, tuning and evaluation too"
    assert verdict(found(made, Policy(max_account_epsilon=1.0)), whole) == "fail"
    assert verdict(found(made, Policy(max_account_epsilon=0.0)), whole) == "not asked"
    sites = tuple(site.model_copy(update={"account_epsilon_held_out": 21.0}) for site in made.card.sites)
    assert verdict(found(made, sites=sites), whole) == "fail"


def test_without_privacy_public_data_are_judged_by_attacks_alone(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    off, folder = {"privacy.mode": "off"}, tmp_path_factory.mktemp("off")
    public = Parties().build(folder / "public", off, metrics=HELD)
    assert found(public).verdict == "pass"
    assert found(public, metrics={**HELD, "attacks": attack_metrics(0.8)}).verdict == "fail"
    private = Parties().build(folder / "private", off, card=replace(CARD, public=False), metrics=HELD)
    result = found(private)
    assert result.verdict == "fail"
    failed = {row.name for row in result.rows if row.verdict == "fail"}
    assert failed == {"differential privacy", "ε of this run", "ε of the accounts, tuning and evaluation too"}


def test_every_receipt_must_be_signed(made: Release, tmp_path_factory: pytest.TempPathFactory) -> None:
    first = made.receipts[0]
    other = (replace(first, signature="00" * 64), *made.receipts[1:])
    assert verdict(found(made, receipts=other), "signatures of the sites") == "fail"
    keys = {"north": made.card.verify_keys["north"]}
    assert verdict(found(made, verify_keys=keys), "signatures of the sites") == "fail"
    bare = build(tmp_path_factory.mktemp("bare") / "release", metrics=HELD)
    assert verdict(found(bare), "signatures of the sites") == "fail"
    assert verdict(found(bare, Policy(require_signatures=False)), "signatures of the sites") == "not asked"


@pytest.mark.parametrize(
    ("floors", "name", "expected"),
    [
        (Floors(), "accuracy", "not asked"),
        (Floors(accuracy=0.8), "accuracy", "pass"),
        (Floors(accuracy=0.82), "accuracy", "fail"),
        (Floors(auc=0.9), "AUC", "fail"),
        (Floors(worst_class=0.75), "worst class", "pass"),
        (Floors(worst_class=0.85), "worst class", "fail"),
        (Floors(dice=0.1), "Dice", "inconclusive"),
        (Floors(coverage=0.1), "coverage", "inconclusive"),
    ],
)
def test_floors(made: Release, floors: Floors, name: str, expected: str) -> None:
    assert verdict(found(made, Policy(floors=floors)), name) == expected


def test_a_figure_that_is_no_number_is_inconclusive_where_it_is_asked_for(made: Release) -> None:
    told = {**HELD, "released": {"accuracy": "nan", "auc": 0.8}}
    assert (
        verdict(found(made, Policy(floors=Floors(accuracy=0.1)), metrics=told), "accuracy") == "inconclusive"
    )
    assert not [row for row in found(made, metrics=told).rows if row.name == "accuracy"]


def test_small_subgroups_are_not_assessed(made: Release) -> None:
    result = found(made, Policy(smallest_subgroup=200.0))
    assert verdict(result, "subgroups") == "not assessed"
    assert result.verdict == "pass"
    assert result.subgroups[0].right != result.subgroups[0].right
    assert result.subgroups[1].error > 0
    assert "normal" in next(row.todo for row in result.rows if row.name == "subgroups")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"finite": False, "lowest": nan, "highest": nan, "constant": nan}, "pixels"),
        ({"highest": 1.1}, "pixels"),
        ({"constant": 0.1}, "pixels"),
        ({"difference": (0.2, 0.001)}, "variety of a class"),
        ({"difference": (nan, nan)}, "variety of a class"),
        ({"duplicates": 0.2}, "near-duplicates among drawn images"),
        ({"duplicates": nan}, "near-duplicates among drawn images"),
        ({"repeats": False}, "drawn twice by one seed"),
    ],
)
def test_images_that_show_a_fault_fail(made: Release, changes: Mapping[str, Any], name: str) -> None:
    result = found(made, samples=SOUND.model_copy(update=dict(changes)))
    assert result.verdict == "fail"
    assert verdict(result, name) == "fail"


def test_marks_are_asked_for_by_the_policy(made: Release) -> None:
    strict = Policy(require_contact=True, require_licence=True, max_valid_days=400)
    bare = found(made, strict)
    assert [verdict(bare, name) for name in ("contact", "licence", "expiry")] == ["fail"] * 3
    marks: dict[str, Any] = {"contact": "privacy@clinic.example", "licence": "cc-by-4.0"}
    created = ReleaseCard.model_validate(made.card.to_json()).created
    later = created.replace(created[:4], str(int(created[:4]) + 1), 1)
    good = found(made, strict, expires=later, **marks)
    assert [verdict(good, name) for name in ("contact", "licence", "expiry")] == ["pass"] * 3
    far = found(made, strict, expires=created.replace(created[:4], "2999", 1), **marks)
    assert verdict(far, "expiry") == "fail"
    assert verdict(found(made), "contact") == "not asked"


def test_one_failure_outweighs_all() -> None:
    assert worst(("pass", "inconclusive", "fail", "not asked")) == "fail"
    assert worst(("pass", "inconclusive", "not assessed")) == "inconclusive"
    assert worst(("pass", "not asked", "not assessed")) == "pass"
    assert worst(()) == "pass"


def test_a_result_is_read_back_from_json(made: Release) -> None:
    result = found(made, samples=SOUND.model_copy(update={"duplicates": nan}))
    assert CheckResult.model_validate(result.to_json()).to_json() == result.to_json()
