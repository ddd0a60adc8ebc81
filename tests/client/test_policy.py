"""No study passes a limit of site.toml, and what the coordinator learns depends on public facts alone."""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from client.policy import Cost, Facts, Rule, broken_by_data, broken_by_study, broken_rules, refusal
from client.reasons import reason_for_coordinator, reason_for_log
from client.site_file import SiteFile, parse_site_file
from medgan_core.errors import (
    BudgetError,
    ConfigError,
    DataError,
    LedgerError,
    MedGANError,
    PolicyError,
    ReceiptError,
)
from medgan_core.privacy.plan import PrivacyPlan
from tests.client.making import NOISE
from tests.server.making import tiny_study

WIDE = {
    "epsilon": 1000.0,
    "epsilon_per_study": 1000.0,
    "local_epsilon": 1000.0,
    "least_noise_multiplier": 0.0,
}
_PUBLIC = {"name": "north", "data": {"public": True}}


def site(**policy: Any) -> SiteFile:
    return parse_site_file({"name": "north", "policy": WIDE | {"largest_sampling_rate": 1.0} | policy})


def names(config: SiteFile, **changes: Any) -> list[str]:
    study = tiny_study(**NOISE | changes)
    rules = broken_rules(config, study, PrivacyPlan.of(study, "patient"))
    assert all(rule.public for rule in rules)
    return [rule.name for rule in rules]


LIMITS = {
    "delta": ("privacy__delta", st.floats(1e-9, 0.05)),
    "largest_clip_norm": ("privacy__clip_norm", st.floats(0.01, 100)),
    "images_per_patient": ("privacy__max_images_per_patient", st.integers(1, 50)),
    "largest_sampling_rate": ("privacy__sampling_rate", st.floats(0.01, 1)),
    "largest_generator_width": ("training__generator_width", st.integers(4, 200)),
    "largest_discriminator_width": ("training__discriminator_width", st.integers(4, 200)),
    "most_rounds": ("rounds", st.integers(0, 50)),
}


@settings(max_examples=80, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(LIMITS)))
def test_a_study_passes_exactly_up_to_each_limit(data: st.DataObject, name: str) -> None:
    key, values = LIMITS[name]
    asked, limit = data.draw(values), data.draw(values)
    assume(limit > 0 or name == "most_rounds")
    study = tiny_study(**NOISE | {key: asked})
    broken = [rule.name for rule in broken_by_study(site(**{name: limit}), study)]
    assert (name in broken) == (asked > limit)


@pytest.mark.parametrize(
    ("policy", "changes", "rule"),
    [
        ({"most_steps": 3}, {}, "most_steps"),
        ({"tasks": []}, {}, "tasks"),
        ({"image_sizes": [64]}, {}, "image_sizes"),
        ({"metrics": ["generator_loss"]}, {}, "metrics"),
        ({"discriminator_may_leave": False}, {}, "discriminator_may_leave"),
        ({"least_noise_multiplier": 5.5}, {}, "least_noise_multiplier"),
        ({"epsilon_per_study": 5.0}, {}, "epsilon_per_study"),
        ({}, {"privacy__mode": "off"}, "privacy_off"),
        ({}, {"data__classes": []}, "classes"),
        ({}, {"data__split": "official"}, "split"),
    ],
)
def test_each_rule_is_broken_by_its_name(policy: dict[str, Any], changes: dict[str, Any], rule: str) -> None:
    assert rule in names(site(**policy), **changes)


def test_what_keeps_to_the_limits_passes() -> None:
    assert names(site()) == []
    assert names(site(discriminator_may_leave=False), share="generator") == []
    assert names(site(metrics=[], discriminator_may_leave=False), strategy="one_shot", rounds=0) == []


def test_the_modality_is_the_declared_one() -> None:
    declared = parse_site_file({"name": "north", "data": {"modality": "DX"}, "policy": WIDE})
    assert "modality" in names(declared)
    assert "modality" not in names(declared, data__modality="DX")


def test_privacy_may_be_off_only_where_the_person_declares_the_images_public() -> None:
    with pytest.raises(ConfigError):
        site(privacy_off=True)
    allowed = parse_site_file(_PUBLIC | {"policy": WIDE | {"privacy_off": True}})
    assert names(allowed, privacy__mode="off") == []
    assert names(parse_site_file(_PUBLIC | {"policy": WIDE}), privacy__mode="off") == ["privacy_off"]


SUMS = {
    "privacy__secure_sum": True,
    "privacy__noise_multiplier": None,
    "privacy__one_shot_noise_multiplier": None,
    "sites__count": 5,
    "privacy__epsilon": 4.0,
}


def _sums(**changes: Any) -> Any:
    study = tiny_study(**{k: v for k, v in (NOISE | SUMS | changes).items() if v is not None})
    return study, PrivacyPlan.of(study, "patient")


def test_without_trust_a_secure_sum_costs_what_it_costs_locally() -> None:
    study, plan = _sums()
    cost = Cost.of(plan)
    assert cost.trusted < cost.local
    between = (cost.trusted + cost.local) / 2
    rules = {
        trust: [
            r.name for r in broken_rules(site(epsilon_per_study=between, trust_secure_sum=trust), study, plan)
        ]
        for trust in (True, False)
    }
    assert rules == {True: [], False: ["epsilon_per_study"]}
    capped = site(trust_secure_sum=True, local_epsilon=between)
    assert [r.name for r in broken_rules(capped, study, plan)] == ["local_epsilon"]
    assert [r.name for r in broken_rules(site(max_repeats=0), study, plan)] == ["max_repeats"]


def test_the_cost_of_a_study_counts_repeats_and_several_sites() -> None:
    _, once = _sums(privacy__max_repeats=0)
    _, twice = _sums(privacy__max_repeats=1)
    assert Cost.of(twice).trusted > Cost.of(once).trusted
    study = tiny_study(**NOISE)
    plan = PrivacyPlan.of(study, "patient")
    assert Cost.of(plan).trusted == Cost.of(plan).local == pytest.approx(plan.epsilon())


# What only the site may know


@given(
    patients=st.integers(0, 100),
    held_out=st.integers(0, 20),
    unit=st.sampled_from(["patient", "image"]),
    left_out=st.dictionaries(st.text(max_size=5), st.integers(1, 9), max_size=2),
)
def test_no_word_on_the_data_reaches_the_coordinator(
    patients: int, held_out: int, unit: str, left_out: dict[str, int]
) -> None:
    config = site(least_patients=50, least_held_out=5)
    rules = broken_by_data(config, Facts(patients, held_out, 2 * patients, unit, left_out))
    expected = {
        "patients": unit == "image",
        "least_patients": patients < 50,
        "least_held_out": held_out < 5,
    }
    assert {rule.name for rule in rules} == {name for name, broken in expected.items() if broken}
    if rules:
        assert reason_for_coordinator(refusal(rules)) == "not approved"
        assert all(rule.name in reason_for_log(refusal(rules)) for rule in rules)


_rule = st.builds(Rule, st.text(min_size=1, max_size=9), st.booleans(), st.text(max_size=9))


@given(public=st.lists(_rule.filter(lambda rule: rule.public)), one=st.lists(_rule), other=st.lists(_rule))
def test_the_coordinators_reason_does_not_depend_on_private_rules(
    public: list[Rule], one: list[Rule], other: list[Rule]
) -> None:
    private = [[rule for rule in rules if not rule.public] for rules in (one, other)]
    told = [reason_for_coordinator(refusal((*public, *rules))) for rules in private]
    assert told[0] == told[1]


@pytest.mark.parametrize("kind", [BudgetError, ReceiptError, DataError])
@given(text=st.text())
def test_errors_of_data_and_budget_read_alike(kind: type[MedGANError], text: str) -> None:
    assert reason_for_coordinator(kind(text)) == "not approved"


def test_errors_of_data_do_not_reach_the_log_either() -> None:
    assert "Anna" not in reason_for_log(DataError("manifest.csv row 3: Anna/1.png cannot be decoded"))
    assert reason_for_log(LedgerError("the chain breaks")) == "the chain breaks"
    assert reason_for_coordinator(LedgerError("entry 7")) == "failed: LedgerError"
    assert reason_for_coordinator(PolicyError("long", "short")) == "short"
