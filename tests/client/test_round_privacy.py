"""What `local_round` owes to the privacy contract, shown with secret sources that are told what to draw."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import client.round
from client.asked import RoundResult
from client.round import local_round
from medgan_core.config import ATTACK_BINS, GATE_SIZE, Study, parse_study
from medgan_core.data.source import Card, Site, SiteData
from medgan_core.evaluate.gate import advantage_sum
from medgan_core.evaluate.histogram import score_histogram
from medgan_core.evaluate.utility import class_scores, make_classifier
from medgan_core.gan.task import GanTask
from medgan_core.gan.tasks import make_task
from medgan_core.messages import DISCRIMINATORS, Array, Groups, Phase, Request, digest_groups
from medgan_core.privacy.embedding import Features, patient_sum
from medgan_core.privacy.engine import PrivateOptimizer
from medgan_core.privacy.noise import Keystream, SeededRandom
from medgan_core.privacy.noise_watch import WIDTH
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.seeds import Seeds
from medgan_core.tensors import seeded, state_of, weights_of

SHAPE, CLASSES, STEPS = (1, 28, 28), ("a", "b"), 4
CARD = Card("x", CLASSES, SHAPE, "OT", "patient", False)
METRICS = {"generator_loss", "discriminator_accuracy_on_fakes", "discriminator_steps"}


class Told:
    """A secret source whose Gaussians are all `noise` and whose coins are `coins`, or all the same coin."""

    def __init__(self, coins: list[float] | float = 0.0, noise: float = 0.0) -> None:
        self.coins, self.noise = coins, noise
        self.gaussians: list[int] = []
        self.tossed: list[int] = []

    def normal(self, count: int) -> Tensor:
        self.gaussians.append(count)
        return torch.full((count,), self.noise, dtype=torch.float64)

    def uniform(self, count: int) -> Tensor:
        self.tossed.append(count)
        if isinstance(self.coins, float) or count != len(self.coins):
            coin = self.coins if isinstance(self.coins, float) else 0.5
            return torch.full((count,), coin, dtype=torch.float64)
        return torch.tensor(self.coins, dtype=torch.float64)


def _study(*, share: str = "both", data: dict[str, Any] | None = None, **training: Any) -> Study:
    small = {
        "discriminator_width": 4,
        "precision": "float32",
        "generator_width": 4,
        "latent_size": 4,
        "batch": 6,
        "discriminator_steps": STEPS,
    }
    return parse_study(
        {
            "name": "x",
            "strategy": "refine",
            "seed": 5,
            "share": share,
            "data": {"kind": "npz", "path": "x"} | (data or {}),
            "one_shot": {"frequencies": 8},
            "training": small | training,
        }
    )


def _plan(**changes: Any) -> PrivacyPlan:
    plan = PrivacyPlan(True, "patient", "add/remove", 1e-5, 1.0, 0.5, 4.0, 4, 1, 2, STEPS, 1.0, 2.5, 3.5)
    return replace(plan, **changes)


def _data(counts: list[int], seed: int) -> SiteData:
    random = torch.Generator().manual_seed(seed)
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.int64))
    images = torch.rand(len(owner), *SHAPE, generator=random) * 2 - 1
    labels = torch.randint(2, (len(owner),), generator=random)
    return SiteData(CARD, tuple(f"p{i}" for i in range(len(counts))), owner, images, labels)


def _site(counts: list[int] | None = None, seed: int = 0, held_out_seed: int = 90) -> Site:
    return Site("north", _data(counts or [1, 2, 3, 1, 2], seed), _data([2, 1, 3], held_out_seed))


def _task(study: Study) -> GanTask:
    return make_task(study, SHAPE, CLASSES)


def _incoming(study: Study, phase: Phase, statistics_seed: int = 1) -> Request:
    task = _task(study)
    size = Features.of(study.one_shot, SHAPE, Seeds(study.seed)).size
    statistics: Array = np.random.default_rng(statistics_seed).normal(5.0, 1.0, (len(CLASSES), size + 1))
    groups: Groups = {
        "generator": weights_of(seeded(task.make_generator, 1)),
        "discriminator": weights_of(seeded(task.make_discriminator, 2)),
        "release": state_of(seeded(task.make_generator, 1)),
        DISCRIMINATORS: {f"2.{n}": a for n, a in weights_of(seeded(task.make_discriminator, 2)).items()},
        "classifier": weights_of(seeded(lambda: make_classifier(1, len(CLASSES)), 3)),
        "classifier_one_shot": weights_of(seeded(lambda: make_classifier(1, len(CLASSES)), 4)),
        "classifier_refined": weights_of(seeded(lambda: make_classifier(1, len(CLASSES)), 5)),
        "statistics": {"embedding": statistics},
    }
    return Request("run", 1, phase, "plan", groups)


def _round(
    study: Study,
    random: Any,
    *,
    phase: Phase = Phase.TRAIN,
    plan: PrivacyPlan | None = None,
    site: Site | None = None,
    request: Request | None = None,
    local: Groups | None = None,
) -> RoundResult:
    return local_round(
        study,
        _task(study),
        plan or _plan(),
        site or _site(),
        request or _incoming(study, phase),
        local or {},
        Seeds(study.seed),
        random,
    )


def _fingerprint(result: RoundResult) -> tuple[str, str, dict[str, float]]:
    return digest_groups(result.groups), digest_groups(result.local), dict(result.metrics)


train = partial(_round, phase=Phase.TRAIN)
UNFELT = 1e-30
"""A clip norm so small that no float32 weight feels it: what still changes took another way out."""


@pytest.mark.parametrize("at_once", [1, 5, 512])
def test_the_one_shot_query_is_the_patient_sum_with_exactly_the_planned_noise(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client.round, "_EMBEDDED_AT_ONCE", at_once)
    study, site = _study(), _site()
    random = Told(noise=1.0)
    result = _round(study, random, phase=Phase.ONE_SHOT, site=site)
    data = site.training
    features = Features.of(study.one_shot, SHAPE, Seeds(study.seed))(data.images)
    clean = patient_sum(features, data.labels, data.owner, 2, study.one_shot.count_weight)
    released = torch.from_numpy(result.groups["statistics"]["embedding"])
    assert released.dtype == torch.float64
    assert torch.allclose(released - clean, torch.tensor(2.5).double(), atol=1e-6)
    assert random.gaussians == [clean.numel() + WIDTH]


def test_the_one_shot_query_gives_every_entry_its_own_noise() -> None:
    results = [
        _round(_study(), SeededRandom(seed), phase=Phase.ONE_SHOT).groups["statistics"]["embedding"]
        for seed in (1, 2)
    ]
    apart = (results[0] - results[1]).flatten()
    assert len(np.unique(apart)) == len(apart)
    assert 0.5 < apart.std() / (2.5 * 2**0.5) < 1.6


def test_the_one_shot_query_releases_one_array_and_nothing_else() -> None:
    result = _round(_study(), Keystream(), phase=Phase.ONE_SHOT)
    assert {name: set(group) for name, group in result.groups.items()} == {"statistics": {"embedding"}}
    assert not result.metrics
    assert not result.local


def test_evaluation_releases_the_histogram_of_held_out_patients_with_the_planned_noise() -> None:
    study, random = _study(), Told(noise=1.0)
    request, site = _incoming(study, Phase.EVALUATE), _site()
    result = _round(study, random, request=request, site=site)
    classifier = seeded(lambda: make_classifier(1, 2), 3).eval()
    held_out = site.held_out
    clean = score_histogram(class_scores(classifier, held_out.images), held_out.labels, held_out.owner)
    released = torch.from_numpy(result.groups["statistics"]["histogram"])
    assert torch.allclose(released - clean, torch.tensor(3.5).double(), atol=1e-9)
    assert random.gaussians == [2 * 2 * 10 + WIDTH]
    assert {name: set(group) for name, group in result.groups.items()} == {"statistics": {"histogram"}}
    assert not result.metrics
    assert not result.local


def test_the_gate_releases_the_advantage_on_held_out_patients_with_the_planned_noise() -> None:
    study, random, site = _study(), Told(noise=1.0), _site()
    result = _round(
        study, random, phase=Phase.GATE, plan=_plan(gate=True, gate_noise_multiplier=4.5), site=site
    )
    held_out = site.held_out
    refined, one_shot = (
        class_scores(seeded(lambda: make_classifier(1, 2), seed).eval(), held_out.images) for seed in (5, 4)
    )
    clean = advantage_sum(refined, one_shot, held_out.labels, held_out.owner)
    released = torch.from_numpy(result.groups["statistics"]["gate"])
    assert clean[1] > 0
    assert torch.allclose(released - clean, torch.tensor(4.5).double(), atol=1e-9)
    assert random.gaussians == [GATE_SIZE + WIDTH]
    assert {name: set(group) for name, group in result.groups.items()} == {"statistics": {"gate"}}
    assert not result.metrics
    assert not result.local


@pytest.mark.parametrize(("phase", "rate"), [(Phase.ATTACK, 1.0), (Phase.CONTROL, 1.0), (Phase.ATTACK, 0.4)])
def test_an_attack_releases_the_cells_of_patients_who_join_with_the_planned_noise(
    phase: Phase, rate: float
) -> None:
    study, site = _study(), _site()
    plan = _plan(attack_size=study.attack_size, attack_noise_multiplier=1.5, control_noise_multiplier=2.5)
    plan = replace(plan, attack_rate=rate, control_rate=rate)
    random = Told(coins=0.5, noise=1.0)
    result = _round(study, random, phase=phase, plan=plan, site=site)
    released = torch.from_numpy(result.groups["statistics"][str(phase)])
    clean = released - (1.5 if phase is Phase.ATTACK else 2.5)
    patients = len(site.training if phase is Phase.ATTACK else site.held_out)
    each = torch.tensor(float(patients if rate == 1 else 0)) / len(study.attacks) ** 0.5
    assert released.shape == (len(study.attacks), 2, ATTACK_BINS)
    assert torch.allclose(clean.sum((1, 2)), each.double().expand(len(study.attacks)))
    assert random.gaussians == [study.attack_size + WIDTH]
    assert not result.metrics
    assert not result.local


def test_judging_never_looks_at_training_patients_nor_training_at_held_out_ones() -> None:
    study = _study()
    for phase in (Phase.GATE, Phase.EVALUATE, Phase.CONTROL):
        judged = [_round(study, Told(), phase=phase, site=_site([1] * (seed + 1), seed)) for seed in (0, 7)]
        assert _fingerprint(judged[0]) == _fingerprint(judged[1])
    for phase in (Phase.ONE_SHOT, Phase.TRAIN, Phase.ATTACK):
        results = [_round(study, Told(), phase=phase, site=_site(held_out_seed=s)) for s in (90, 91)]
        assert _fingerprint(results[0]) == _fingerprint(results[1])


def test_only_three_figures_of_training_leave() -> None:
    for share in ("both", "generator"):
        assert set(train(_study(share=share), Keystream()).metrics) == METRICS


def test_precision_and_physical_batch_of_the_study_are_those_of_its_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    real = PrivacyPlan.optimizer

    def seen(self: PrivacyPlan, *arguments: Any, **passes: Any) -> Any:
        asked.append(passes)
        return real(self, *arguments, **passes)

    monkeypatch.setattr(PrivacyPlan, "optimizer", seen)
    _round(_study(physical_batch=2, precision="bfloat16"), SeededRandom(0))
    (passes,) = asked
    assert (passes["physical_batch"], passes["precision"]) == (2, "bfloat16")


def test_every_step_tosses_one_secret_coin_a_patient_and_draws_its_own_noise() -> None:
    study, random = _study(), Told(0.9)
    train(study, random, site=_site([1, 2, 3]))
    weights = sum(p.numel() for p in _task(study).make_discriminator().parameters())
    assert random.tossed == [3] * STEPS
    assert random.gaussians == [weights + WIDTH] * STEPS


def test_the_rhythm_of_the_generator_never_changes_the_planned_steps() -> None:
    for every, adaptive in ((1, True), (2, False), (100, True)):
        random = Told(0.9)
        result = train(
            _study(generator_every=every, adaptive=adaptive, discriminator_steps=25),
            random,
            plan=_plan(steps=25),
        )
        assert len(random.gaussians) == len(random.tossed) == 25
        assert result.metrics["discriminator_steps"] == 25


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """Images and owners of every step that the private optimiser is given."""
    seen: list[tuple[Tensor, Tensor]] = []
    step = PrivateOptimizer.step

    def spy(
        self: PrivateOptimizer, loss: Any, images: Tensor, labels: Tensor, owner: Tensor, free: Any
    ) -> None:
        seen.append((images, owner))
        step(self, loss, images, labels, owner, free)

    monkeypatch.setattr(PrivateOptimizer, "step", spy)
    return seen


def test_the_coins_come_from_the_secret_source_and_not_from_the_study_s_seed(
    sampled: list[tuple[Tensor, Tensor]],
) -> None:
    site = _site([1] * 30)
    for random in (SeededRandom(1), SeededRandom(2), SeededRandom(1)):
        train(_study(), random, site=site, plan=_plan(noise_multiplier=0.0))
    sizes = [[len(images) for images, _ in sampled[i : i + STEPS]] for i in (0, STEPS, 2 * STEPS)]
    assert sizes[0] != sizes[1]
    assert sizes[0] == sizes[2]
    for _ in range(2):
        train(_study(), Keystream(), site=site)
    first, second = sampled[-2 * STEPS : -STEPS], sampled[-STEPS:]
    assert any(
        len(a) != len(b) or not torch.equal(a, b) for (a, _), (b, _) in zip(first, second, strict=True)
    )


def test_patients_below_the_planned_rate_are_sampled_with_all_their_images(
    sampled: list[tuple[Tensor, Tensor]],
) -> None:
    site = _site([1, 2, 3])
    train(_study(), Told([0.49, 0.5, 0.0]), site=site, plan=_plan(sampling_rate=0.5))
    expected = site.training.images[[0, 3, 4, 5]]
    for images, owner in sampled:
        assert torch.equal(images, expected)
        assert owner.tolist() == [0, 1, 1, 1]


def test_the_same_draws_give_the_same_round_and_other_draws_another() -> None:
    first, again, other = (_fingerprint(train(_study(), SeededRandom(seed))) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_global_seed_decides_on_nothing() -> None:
    results = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            results.append(_fingerprint(train(_study(), SeededRandom(1))))
    assert results[0] == results[1]


@pytest.mark.parametrize("share", ["both", "generator"])
def test_nothing_of_patients_leaves_but_their_clipped_gradients(share: str) -> None:
    study, plan = _study(share=share), _plan(clip_norm=UNFELT)
    sites = [_site(), _site(seed=1), _site([4]), _site([1] * 40, seed=2)]
    results = [train(study, Told(0.0), site=site, plan=plan) for site in sites]
    results.append(train(study, Told(1 - 2.0**-53), plan=plan))  # nobody is sampled
    leaves = [(digest_groups(result.groups), dict(result.metrics)) for result in results]
    assert all(left == leaves[0] for left in leaves)
    # the momentum stays, and holds the clipped gradients alone
    stays = [np.abs(a).max() for r in results for a in r.local.get("momentum", {}).values()]
    assert all(largest < 100 * UNFELT for largest in stays)


def test_with_a_clip_norm_that_is_felt_the_patients_do_count() -> None:
    results = [_fingerprint(train(_study(), Told(0.0), site=_site(seed=seed))) for seed in (0, 1)]
    assert results[0] != results[1]


def test_patients_that_were_not_sampled_leave_no_trace() -> None:
    data = _site([1, 2, 3]).training
    images = data.images.clone()
    images[data.owner == 1] = float("nan")
    other = replace(data, images=images, labels=torch.where(data.owner == 1, 1 - data.labels, data.labels))
    results = [
        _fingerprint(train(_study(), Told([0.0, 0.9, 0.0]), site=Site("north", part, part)))
        for part in (data, other)
    ]
    assert results[0] == results[1]


AUGMENTED = {"flip": True, "rotate_degrees": 10.0, "crop_pixels": 2}


def test_an_image_of_several_views_is_one_patient_with_varied_rows(
    sampled: list[tuple[Tensor, Tensor]],
) -> None:
    train(_study(data=AUGMENTED | {"views": 3}), Told(0.0), site=_site([1, 2]))
    images, owner = sampled[-1]
    assert owner.tolist() == [0] * 3 + [1] * 6
    assert len({tuple(image.flatten().tolist()) for image in images}) == 9


def test_nothing_of_patients_leaves_by_the_randomness_of_augmentation() -> None:
    study, plan = _study(data=AUGMENTED), _plan(clip_norm=UNFELT)
    sampled = _fingerprint(train(study, Told(0.0), plan=plan))
    assert sampled == _fingerprint(train(study, Told(0.0), site=_site([1] * 9, seed=3), plan=plan))
    assert sampled == _fingerprint(train(study, Told(1 - 2.0**-53), plan=plan))


class Seeded(Told):
    """Coins as told; every patient who joined is augmented by a number of its own, in the order of draws."""

    def __init__(self, coins: list[float], seeds: list[float]) -> None:
        super().__init__(coins)
        self.seeds = seeds

    def uniform(self, count: int) -> Tensor:
        if count == 4:
            return super().uniform(count)
        return torch.tensor(self.seeds[:count], dtype=torch.float64)


def test_how_one_patient_is_augmented_is_not_changed_by_the_others(
    sampled: list[tuple[Tensor, Tensor]],
) -> None:
    study, site = _study(data=AUGMENTED), _site([1, 2, 1, 1])
    silent = _plan(noise_multiplier=0.0)
    asked = (
        Seeded([0.9, 0.9, 0.0, 0.9], [0.3]),
        Seeded([0.9, 0.0, 0.0, 0.9], [0.1, 0.3]),
        Seeded([0.0, 0.0, 0.0, 0.9], [0.2, 0.7, 0.3]),
        Seeded([0.9, 0.9, 0.0, 0.9], [0.4]),
    )
    for random in asked:
        train(study, random, site=site, plan=silent)
    alone, beside, among, other = (sampled[i * STEPS][0][-1] for i in range(4))
    assert torch.equal(alone, beside)
    assert torch.equal(alone, among)
    assert not torch.equal(alone, other)


def test_a_patient_is_augmented_by_a_fresh_secret_in_every_step(
    sampled: list[tuple[Tensor, Tensor]],
) -> None:
    train(_study(data=AUGMENTED), Keystream(), site=_site([1]), plan=_plan(sampling_rate=1.0))
    views = {tuple(images.flatten().tolist()) for images, _ in sampled}
    assert len(views) == len(sampled) == STEPS > 1


def test_the_anchor_of_the_generator_is_what_was_released_and_no_second_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def explode(*_: object) -> None:
        raise AssertionError("patients were embedded again")

    monkeypatch.setattr(client.round, "patient_sum", explode)
    study, plan = _study(anchor_weight=5.0), _plan(clip_norm=UNFELT)
    requests = [_incoming(study, Phase.TRAIN, seed) for seed in (1, 1, 2)]
    ends = [
        _fingerprint(train(study, Told(0.0), request=request, site=_site(seed=i), plan=plan))
        for i, request in enumerate(requests)
    ]
    assert ends[0] == ends[1]
    assert ends[0] != ends[2]


def test_the_statistics_of_batch_norm_do_not_travel() -> None:
    result = train(_study(), Keystream())
    assert set(result.groups["generator"]) == {
        name for name, _ in _task(_study()).make_generator().named_parameters()
    }


def test_where_both_networks_are_shared_nothing_of_the_discriminator_is_kept() -> None:
    result = train(_study(), Keystream())
    assert set(result.groups) == {"generator", "discriminator"}
    assert not result.local


def test_where_the_generator_alone_is_shared_discriminator_and_momentum_stay_at_the_site() -> None:
    study = _study(share="generator")
    first = train(study, SeededRandom(1))
    assert set(first.groups) == {"generator"}
    assert set(first.local) == {"discriminator", "momentum"}
    request = _incoming(study, Phase.TRAIN)
    blank = {name: np.zeros_like(a) for name, a in request.groups["discriminator"].items()}
    other = replace(request, groups={**request.groups, "discriminator": blank})
    goes_on = [
        _fingerprint(train(study, SeededRandom(2), local=first.local, request=r)) for r in (request, other)
    ]
    assert goes_on[0] == goes_on[1]
    without = {"discriminator": first.local["discriminator"]}
    assert _fingerprint(train(study, SeededRandom(2), local=without)) != goes_on[0]


def test_one_patient_moves_the_released_discriminator_by_at_most_its_bound() -> None:
    """One step of SGD at rate 1: C over the nominal batch."""
    study = _study(discriminator_steps=1, discriminator_learning_rate=1.0)
    plan = _plan(steps=1, clip_norm=0.01, nominal_batch=8.0)
    whole = _site([1, 2, 3, 1]).training
    ends = []
    for part in (whole, whole.of_patients([0, 1, 3])):
        result = train(study, Told(0.0), site=Site("north", part, part), plan=plan)
        arrays = result.groups["discriminator"]
        ends.append(np.concatenate([arrays[name].astype(np.float64).ravel() for name in sorted(arrays)]))
    moved = float(np.linalg.norm(ends[0] - ends[1]))
    assert 0.5 * 0.01 / 8 < moved <= 0.01 / 8 * (1 + 1e-3)  # weights are float32


def test_without_privacy_no_noise_moves_the_discriminator() -> None:
    off = _plan(private=False, noise_multiplier=0.0, one_shot_noise_multiplier=0.0)
    results = [_fingerprint(train(_study(), Told(0.0, noise), plan=off)) for noise in (0.0, 1e6)]
    assert results[0] == results[1]
