import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medgan_core.config import GATE_SIZE
from medgan_core.gan.ema import ema
from medgan_core.messages import PROPORTIONS, Groups, Phase
from medgan_core.record import load_groups, save_groups
from medgan_core.seeds import Seeds
from server.aggregate import average
from server.state import (
    FederationState,
    draw,
    expected_groups,
    initial_state,
    next_request,
    noisy_proportions,
    phase_of,
    released_generator,
    server_step,
)
from tests.server.making import SITES, Federation, federation, sealed


@pytest.fixture(scope="module")
def of() -> Federation:
    return federation()


@pytest.fixture(scope="module")
def started(of: Federation) -> FederationState:
    """After the one-shot round."""
    return of.after(1)


@pytest.fixture(scope="module")
def trained(of: Federation, started: FederationState) -> FederationState:
    """After the first adversarial round."""
    return server_step(of.study, of.task, started, of.answers(started))


@pytest.fixture(scope="module")
def finished(of: Federation, trained: FederationState) -> FederationState:
    """After the last adversarial round."""
    return server_step(of.study, of.task, trained, of.answers(trained))


def equal(one: Groups, other: Groups) -> bool:
    return one.keys() == other.keys() and all(
        one[group].keys() == other[group].keys()
        and all(np.array_equal(array, other[group][name]) for name, array in one[group].items())
        for group in one
    )


# Phases


@pytest.mark.parametrize(
    ("rounds", "phases"),
    [
        (0, [Phase.ONE_SHOT, Phase.EVALUATE, None]),
        (2, [Phase.ONE_SHOT, Phase.TRAIN, Phase.TRAIN, Phase.EVALUATE, None]),
        (1, [Phase.ONE_SHOT, Phase.TRAIN, Phase.GATE, Phase.EVALUATE, None]),
    ],
)
def test_the_phases_of_a_run(rounds: int, phases: list[Phase | None]) -> None:
    made = federation(rounds=rounds, evaluation__gate=Phase.GATE in phases)
    assert [phase_of(made.study, number) for number in range(len(phases))] == phases
    state, seen = made.state, []
    while (request := next_request(made.study, made.plan, state)) is not None:
        seen.append(request.phase)
        state = server_step(made.study, made.task, state, made.answers(state))
    assert seen == phases[:-1]
    assert [entry["phase"] for entry in state.history] == [str(phase) for phase in seen]
    assert [entry["round"] for entry in state.history] == list(range(len(seen)))
    assert len(state.receipts) == 3 * len(seen)
    assert {"release", "classifier"} <= state.groups.keys()
    assert {"accuracy", "balanced_accuracy", "auc"} <= state.history[-1].keys()


# What is asked


def test_the_first_request_carries_no_weights(of: Federation) -> None:
    request = of.request()
    assert (request.run, request.round, request.phase) == ("run-1", 0, Phase.ONE_SHOT)
    assert request.groups == {}
    assert request.plan == of.plan.digest()


def test_training_sends_both_networks_and_the_released_statistics(
    of: Federation, started: FederationState
) -> None:
    request = of.request(started)
    assert request.groups.keys() == {"generator", "discriminator", "statistics"}
    assert equal(request.groups, {name: started.groups[name] for name in request.groups})
    assert expected_groups(of.study, of.task, started).keys() == {"generator", "discriminator"}


def test_evaluation_sends_the_classifier_alone(of: Federation, finished: FederationState) -> None:
    assert of.request(finished).groups.keys() == {"classifier"}
    assert expected_groups(of.study, of.task, finished).keys() == {"statistics"}


def test_with_a_shared_generator_the_discriminator_never_travels() -> None:
    made = federation(share="generator")
    state = made.after(1)
    assert made.request(state).groups.keys() == {"generator", "statistics"}
    assert expected_groups(made.study, made.task, state).keys() == {"generator"}
    later = server_step(made.study, made.task, state, made.answers(state))
    assert equal({"d": later.groups["discriminator"]}, {"d": made.state.groups["discriminator"]})


def test_the_expected_statistics_have_the_shapes_that_sites_release(
    of: Federation, finished: FederationState
) -> None:
    embedding = expected_groups(of.study, of.task, of.state)["statistics"]["embedding"]
    assert (embedding.shape, embedding.dtype.name) == ((2, 2 * 2 * 8 + 1), "float64")
    histogram = expected_groups(of.study, of.task, finished)["statistics"]["histogram"]
    assert (histogram.shape, histogram.dtype.name) == ((2, 2, 10), "float64")


# What is made of the answers


def test_the_start_depends_on_the_studys_seed_alone(of: Federation) -> None:
    torch.randn(3)
    assert equal(initial_state(of.study, of.task, "other", SITES).groups, of.state.groups)
    other = federation(seed=1)
    assert not equal(other.state.groups, of.state.groups)


def test_the_one_shot_round_keeps_the_sum_and_starts_generator_and_average(
    of: Federation, started: FederationState
) -> None:
    noisy = sum(update.groups["statistics"]["embedding"] for update in of.answers(of.state))
    assert np.allclose(started.groups["statistics"]["embedding"], noisy)
    assert equal({"g": started.groups["generator"]}, {"g": started.groups["average"]})
    assert not equal({"g": started.groups["generator"]}, {"g": of.state.groups["generator"]})
    assert equal({"d": started.groups["discriminator"]}, {"d": of.state.groups["discriminator"]})
    assert len(started.history[0]["noisy_counts"]) == 2


def test_a_training_round_averages_what_is_shared_by_the_public_weights() -> None:
    made = federation(sites__weights=[1.0, 2.0, 5.0])
    state = made.after(1)
    answers = made.answers(state)
    after = server_step(made.study, made.task, state, answers[::-1])
    weights = dict(zip(SITES, (1.0, 2.0, 5.0), strict=True))
    for name in ("generator", "discriminator"):
        expected = average(answers, weights, name)
        assert all(np.allclose(after.groups[name][key], array) for key, array in expected.items())


@pytest.mark.parametrize("rule", ["median", "trimmed_mean"])
def test_a_robust_rule_replaces_the_mean(rule: str, of: Federation, started: FederationState) -> None:
    made = federation(aggregation__rule=rule, aggregation__trim=0.34)
    answers = of.answers(started)
    after = server_step(made.study, made.task, started, answers)
    for name in ("generator", "discriminator"):
        for key, array in after.groups[name].items():
            assert np.allclose(array, np.median([u.groups[name][key] for u in answers], axis=0))


def test_momentum_is_part_of_the_journal(started: FederationState, tmp_path: Path) -> None:
    made = federation(aggregation__momentum=0.5)
    first = server_step(made.study, made.task, started, made.answers(started))
    for name, array in first.groups["generator_velocity"].items():
        step = average(made.answers(started), dict.fromkeys(SITES, 1.0), "generator")[name]
        assert np.allclose(array, step - started.groups["generator"][name], atol=1e-6)
    save_groups(tmp_path / "s", first.groups, first.header())
    restored = FederationState.restore(*load_groups(tmp_path / "s"))
    one, other = (server_step(made.study, made.task, s, made.answers(first)) for s in (first, restored))
    assert "discriminator_velocity" in one.groups
    assert equal(one.groups, other.groups)
    plain = federation()
    other = server_step(plain.study, plain.task, first, made.answers(first))
    assert not equal({"g": one.groups["generator"]}, {"g": other.groups["generator"]})


def test_the_average_of_the_generator_moves_slowly_at_the_coordinator(
    started: FederationState, trained: FederationState
) -> None:
    decay = 2 / 11  # the first round: (1 + 1) / (10 + 1), below the study's .9
    expected = ema(started.groups["average"], trained.groups["generator"], decay)
    assert all(np.allclose(trained.groups["average"][name], array) for name, array in expected.items())


def test_the_mean_of_the_metrics_and_the_names_of_the_sites_are_kept(trained: FederationState) -> None:
    entry = trained.history[-1]
    assert entry["sites"] == list(SITES)
    assert entry["generator_loss"] == entry["discriminator_accuracy_on_fakes"] == 0.5


def test_the_answers_order_does_not_matter(of: Federation, started: FederationState) -> None:
    answers = of.answers(started)
    one = server_step(of.study, of.task, started, answers)
    other = server_step(of.study, of.task, started, answers[::-1])
    assert equal(one.groups, other.groups)


def test_the_last_training_round_releases_a_calibrated_average(
    of: Federation, finished: FederationState, trained: FederationState
) -> None:
    assert "release" not in trained.groups
    release = finished.groups["release"]
    assert all(np.array_equal(array, release[name]) for name, array in finished.groups["average"].items())
    norms = [name for name in release if name.endswith("running_var")]
    assert norms
    assert all(not np.allclose(release[name], 1) for name in norms)


def test_the_discriminator_of_a_site_hears_the_shares_that_the_site_itself_released(of: Federation) -> None:
    answers = of.answers(of.state)
    told = server_step(of.study, of.task, of.state, answers).groups["statistics"]
    for update in answers:
        share = told[f"{PROPORTIONS}{update.site}"]
        assert share.tolist() == noisy_proportions(of.study, update.groups["statistics"]["embedding"])
        assert share.sum() == pytest.approx(1.0)
        assert (share > 0).all()


def test_evaluation_adds_the_histogram_beside_the_embedding(
    of: Federation, finished: FederationState
) -> None:
    state = server_step(of.study, of.task, finished, of.answers(finished))
    kept = finished.groups["statistics"].keys()
    assert state.groups["statistics"].keys() == kept | {"histogram"}
    assert equal({"r": state.groups["release"]}, {"r": finished.groups["release"]})
    assert next_request(of.study, of.plan, state) is None


def test_drawing_from_the_release_is_balanced_and_repeats(of: Federation, finished: FederationState) -> None:
    generator = released_generator(of.task, finished.groups["average"], Seeds(0))
    assert not generator.training
    images, labels = draw(of.task, generator, 10, Seeds(3))
    again, _ = draw(of.task, generator, 10, Seeds(3))
    assert labels.bincount().tolist() == [5, 5]
    assert images.shape == (10, 1, 28, 28)
    assert torch.equal(images, again)


def test_proportions_are_those_of_the_noisy_counts_and_never_negative(of: Federation) -> None:
    count, weight = of.study.one_shot.count_weight, math.sqrt(1 + of.study.one_shot.count_weight**2)
    noisy = np.zeros((2, 33))
    noisy[:, -1] = np.array([30.0, 10.0]) * count / weight
    assert noisy_proportions(of.study, noisy) == pytest.approx([0.75, 0.25])
    noisy[1, -1] = -50
    shares = noisy_proportions(of.study, noisy)
    assert min(shares) > 0
    assert sum(shares) == pytest.approx(1)


# The gate


@pytest.fixture(scope="module")
def gated() -> Federation:
    return federation(evaluation__gate=True)


@pytest.fixture(scope="module")
def asking(gated: Federation) -> FederationState:
    """Before the gate."""
    return gated.after(3)


def told(gated: Federation, asking: FederationState, advantage: float) -> FederationState:
    """After sites that each sent this advantage."""
    update = gated.answers(asking)[0]
    gate = np.zeros(GATE_SIZE)
    gate[0] = advantage
    answers = [sealed(replace(update, site=site, groups={"statistics": {"gate": gate}})) for site in SITES]
    return server_step(gated.study, gated.task, asking, answers)


def test_the_gate_asks_about_both_generators_classifiers_and_nothing_else(
    gated: Federation, asking: FederationState
) -> None:
    request = gated.request(asking)
    assert request.phase is Phase.GATE
    assert request.groups.keys() == {"classifier_one_shot", "classifier_refined"}
    [(name, like)] = expected_groups(gated.study, gated.task, asking)["statistics"].items()
    assert (name, like.shape, like.dtype.name) == ("gate", (GATE_SIZE,), "float64")
    assert "release" not in asking.groups


def test_the_candidates_are_the_one_shots_generator_and_the_refined_average(
    gated: Federation, asking: FederationState
) -> None:
    started = gated.after(1)
    for group, like in (("release_one_shot", started.groups["generator"]), ("release_refined", None)):
        expected = asking.groups["average"] if like is None else like
        assert all(np.array_equal(array, asking.groups[group][name]) for name, array in expected.items())
    alone = federation(rounds=0).after(1)
    assert equal({"g": alone.groups["release"]}, {"g": asking.groups["release_one_shot"]})
    assert equal({"c": alone.groups["classifier"]}, {"c": asking.groups["classifier_one_shot"]})


@pytest.mark.parametrize(("advantage", "kept"), [(0.5, "refined"), (0.0, "one_shot"), (-0.5, "one_shot")])
def test_the_gate_keeps_the_better_generator_with_its_classifier(
    gated: Federation, asking: FederationState, advantage: float, kept: str
) -> None:
    after = told(gated, asking, advantage)
    for name in ("release", "classifier"):
        assert equal({"x": after.groups[name]}, {"x": asking.groups[f"{name}_{kept}"]})
    assert not equal({"x": asking.groups["release_refined"]}, {"x": asking.groups["release_one_shot"]})
    assert {"release_one_shot", "release_refined"} <= after.groups.keys()
    assert not {"classifier_one_shot", "classifier_refined"} & after.groups.keys()
    assert after.history[-1]["kept"] == kept
    assert gated.request(after).groups.keys() == {"classifier"}


def test_the_verdict_counts_the_public_nominal_patients_and_the_noise_of_all_sites() -> None:
    made = federation(
        privacy__mode="dp",
        privacy__noise_multiplier=5.0,
        privacy__one_shot_noise_multiplier=5.0,
        evaluation__gate=True,
        sites__nominal_patients=400,
    )
    entry = told(made, made.after(3), 2.0).history[-1]
    sigma = made.plan.gate_noise_multiplier
    assert entry["patients"] == 3 * 60
    assert entry["gain"] == pytest.approx(3 * 2.0 * math.sqrt(1.25) / 180)
    assert entry["noise"] == pytest.approx(sigma * math.sqrt(3) * math.sqrt(1.25) / 180)
    assert entry["sites"] == list(SITES)


# Keeping it


def test_a_state_survives_the_disk(of: Federation, finished: FederationState, tmp_path: Path) -> None:
    save_groups(tmp_path / "a", finished.groups, finished.header())
    restored = FederationState.restore(*load_groups(tmp_path / "a"))
    assert equal(restored.groups, finished.groups)
    assert (
        replace(restored, groups={}, history=()).__dict__ == replace(finished, groups={}, history=()).__dict__
    )
    assert [dict(entry) for entry in restored.history] == [dict(entry) for entry in finished.history]
    assert of.request(restored).digest() == of.request(finished).digest()


def test_a_header_is_json_without_loss(of: Federation, trained: FederationState) -> None:
    header = json.loads(json.dumps(trained.header()))
    restored = FederationState.restore(trained.groups, header)
    assert restored.header() == trained.header()
    assert restored.receipts == trained.receipts
    assert restored.receipts[0].spent == math.inf
    assert restored.sites == SITES


def test_a_step_leaves_the_state_before_it_as_it_was(of: Federation, started: FederationState) -> None:
    kept = {group: {n: a.copy() for n, a in arrays.items()} for group, arrays in started.groups.items()}
    server_step(of.study, of.task, started, of.answers(started))
    assert equal(started.groups, kept)
    assert started.round == 1
