import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medgan_core.config import OneShotConfig
from medgan_core.privacy.embedding import Embedding, Features, patient_sum
from medgan_core.seeds import Seeds

CLASSES, WIDTH, WEIGHT = 3, 4, 0.2
ASKED = OneShotConfig(frequencies=16, bandwidths=(0.03, 0.1), gabor_bandwidths=())
TEXTURES = OneShotConfig(frequencies=16)

_VALUES = st.sampled_from([0.0, 0.5, -1.0, 1.0, 10.0, 1e30, float("nan"), float("inf"), float("-inf")])
_IMAGE = st.tuples(st.lists(_VALUES, min_size=WIDTH, max_size=WIDTH), st.integers(0, CLASSES - 1))
_PATIENT = st.lists(_IMAGE, min_size=1, max_size=6)
Patient = list[tuple[list[float], int]]


def _sum(patients: list[Patient], weight: float = WEIGHT) -> Tensor:
    features = torch.tensor([f for patient in patients for f, _ in patient]).reshape(-1, WIDTH)
    labels = torch.tensor([y for patient in patients for _, y in patient], dtype=torch.int64)
    owner = torch.tensor([i for i, p in enumerate(patients) for _ in p], dtype=torch.int64)
    return patient_sum(features, labels, owner, CLASSES, weight)


@settings(max_examples=200, deadline=None)
@given(st.lists(_PATIENT, min_size=1, max_size=6), st.data(), st.sampled_from([1e-3, 0.2, 1.0, 30.0]))
def test_one_patient_changes_the_sum_by_at_most_one(
    patients: list[Patient], data: st.DataObject, weight: float
) -> None:
    gone = data.draw(st.integers(0, len(patients) - 1))
    change = _sum(patients, weight) - _sum(patients[:gone] + patients[gone + 1 :], weight)
    assert torch.isfinite(change).all()
    assert float(change.norm()) <= 1 + 1e-12


@pytest.mark.parametrize("images", [1, 5])
def test_the_sensitivity_of_one_is_reached_so_no_noise_is_wasted(images: int) -> None:
    assert float(_sum([[([0.0, 1.0, 0.0, 0.0], 1)] * images]).norm()) == pytest.approx(1)


def test_a_patient_adds_features_and_count_at_the_place_of_its_class() -> None:
    total = _sum([[([0.0, 0.6, 0.8, 0.0], 1)]], 0.5)
    expected = torch.zeros(CLASSES, WIDTH + 1, dtype=torch.float64)
    expected[1] = torch.tensor([0.0, 0.6, 0.8, 0.0, 0.5]) / math.sqrt(1.25)
    assert torch.allclose(total, expected, atol=1e-7)


def test_a_patient_with_images_of_two_classes_splits_its_weight() -> None:
    counts = _sum([[([1.0, 0, 0, 0], 0)] * 3 + [([1.0, 0, 0, 0], 2)]])[:, -1]
    one = _sum([[([1.0, 0, 0, 0], 0)]])[0, -1]
    assert torch.allclose(counts, one * torch.tensor([0.75, 0, 0.25]).double())


def test_counts_are_of_patients_and_not_of_images() -> None:
    total = _sum([[([1.0, 0, 0, 0], 0)] * 10, [([1.0, 0, 0, 0], 0)], [([0.0, 0, 0, 1], 1)] * 4])
    assert Embedding.read(total, WEIGHT).counts.tolist() == pytest.approx([2, 1, 1])


def test_features_of_a_larger_norm_are_brought_to_one_image_by_image() -> None:
    long, unit = ([0.0, 10.0, 0, 0], 0), ([0.0, 1.0, 0, 0], 0)
    assert torch.allclose(_sum([[long]]), _sum([[unit]]))
    other = ([1.0, 0.0, 0, 0], 0)
    assert torch.allclose(_sum([[long, other]]), _sum([[unit, other]]))  # not the mean is shortened


def test_features_of_a_smaller_norm_stay_as_they_are() -> None:
    assert torch.allclose(_sum([[([0.5, 0, 0, 0], 0)]])[0, 0] * 2, _sum([[([1.0, 0, 0, 0], 0)]])[0, 0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_image_that_is_not_finite_counts_as_absent(bad: float) -> None:
    good = ([0.6, 0.8, 0, 0], 1)
    assert torch.equal(_sum([[good, ([bad, 0, 0, 0], 0)]]), _sum([[good]]))
    assert torch.equal(_sum([[good], [([bad] * 4, 1)]]), _sum([[good]]))


def test_nobody_gives_a_sum_of_zeros() -> None:
    assert torch.equal(_sum([]), torch.zeros(CLASSES, WIDTH + 1, dtype=torch.float64))


def test_the_mean_embedding_is_read_back_from_the_sum() -> None:
    total = _sum([[([1.0, 0, 0, 0], 0)], [([0.0, 1, 0, 0], 0)] * 3, [([0.0, 0, 0, 1], 1)]])
    embedding = Embedding.read(total, WEIGHT)
    assert torch.allclose(embedding.mean[0], torch.tensor([0.5, 0.5, 0, 0]))
    assert torch.allclose(embedding.mean[1], torch.tensor([0.0, 0, 0, 1]))


def test_noisy_counts_are_clamped_from_below_by_a_constant() -> None:
    noisy = torch.zeros(2, 3, dtype=torch.float64)
    noisy[:, 0] = 4.0
    noisy[:, -1] = torch.tensor([-5.0, 1e-9])
    embedding = Embedding.read(noisy, WEIGHT)
    assert embedding.counts.tolist() == [1.0, 1.0]
    assert torch.allclose(embedding.mean[:, 0], torch.tensor(4 * math.sqrt(1 + WEIGHT**2)))


def _images(count: int, side: int = 28, seed: int = 0, channels: int = 1) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("asked", [ASKED, TEXTURES])
def test_features_are_of_norm_one_and_of_the_size_they_say(asked: OneShotConfig) -> None:
    features = Features.of(asked, (1, 28, 28), Seeds(1))
    embedded = features(_images(5))
    assert embedded.shape == (5, features.size) == (5, 64)
    assert torch.allclose(embedded.norm(dim=1), torch.ones(5))


@pytest.mark.parametrize("asked", [ASKED, TEXTURES])
def test_features_are_the_same_at_every_site_from_the_public_seed_alone(asked: OneShotConfig) -> None:
    images = _images(3)
    first = Features.of(asked, (1, 28, 28), Seeds(1))(images)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        again = Features.of(asked, (1, 28, 28), Seeds(1))(images)
    assert torch.equal(first, again)
    assert not torch.equal(first, Features.of(asked, (1, 28, 28), Seeds(2))(images))


@pytest.mark.parametrize("asked", [ASKED, TEXTURES])
def test_the_features_of_an_image_do_not_depend_on_the_others(asked: OneShotConfig) -> None:
    features = Features.of(asked, (1, 28, 28), Seeds(1))
    images = _images(4)
    images[3] = float("nan")
    embedded = features(images)
    assert torch.allclose(embedded[:1], features(images[:1]), atol=1e-6)
    assert torch.isfinite(embedded[:3]).all()


def test_the_features_are_those_of_a_mean_of_gaussian_kernels() -> None:
    asked = OneShotConfig(frequencies=20_000, bandwidths=(0.05, 0.3), gabor_bandwidths=())
    a, b = features_of = Features.of(asked, (1, 8, 8), Seeds(0))(_images(2, side=8))
    pixels = (_images(2, side=8).flatten(1) + 1) / 2
    squared = float((pixels[0] - pixels[1]).square().sum())
    kernel = sum(math.exp(-squared / (2 * bandwidth * 64)) for bandwidth in (0.05, 0.3)) / 2
    assert float(a @ b) == pytest.approx(kernel, abs=0.03)
    assert features_of.shape == (2, 80_000)


@pytest.mark.parametrize("asked", [ASKED, TEXTURES])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [64, 128])
def test_large_images_are_averaged_down_and_keep_norm_one(
    side: int, channels: int, asked: OneShotConfig
) -> None:
    features, images = Features.of(asked, (channels, side, side), Seeds(1)), _images(2, side, 0, channels)
    embedded = features(images)
    assert embedded.shape == (2, 64)
    assert torch.allclose(embedded.norm(dim=1), torch.ones(2))
    small = torch.nn.functional.interpolate(images, size=32, mode="area")
    assert torch.allclose(embedded, features(small), atol=1e-5)


@pytest.mark.parametrize("asked", [ASKED, TEXTURES])
def test_colours_reach_the_features(asked: OneShotConfig) -> None:
    features, images = Features.of(asked, (3, 28, 28), Seeds(1)), _images(1, channels=3)
    embedded = features(images)
    assert torch.allclose(embedded.norm(dim=1), torch.ones(1))
    for other in (images.roll(1, 1), images.mean(1, keepdim=True).expand(-1, 3, -1, -1)):
        assert float((features(other) - embedded).norm()) > 0.1


def _brute_force(embedding: Embedding, features: Tensor, labels: Tensor) -> float:
    figures = []
    for cls in range(len(embedding.mean)):
        own = [f for f, y in zip(features, labels.tolist(), strict=True) if y == cls]
        if len(own) < 2:
            continue
        pairs = [float(a @ b) for i, a in enumerate(own) for j, b in enumerate(own) if i != j]
        towards = [float(a @ embedding.mean[cls]) for a in own]
        figures.append(sum(pairs) / len(pairs) - 2 * sum(towards) / len(towards))
    return sum(figures) / len(figures)


def test_the_mismatch_is_the_mean_over_pairs_of_different_fakes() -> None:
    random = torch.Generator().manual_seed(0)
    embedding = Embedding(torch.randn(4, 6, generator=random), torch.ones(4))
    features = torch.randn(12, 6, generator=random)
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 0, 1, 0, 0, 1, 1])  # class 2 has one fake, class 3 none
    expected = _brute_force(embedding, features, labels)
    assert float(embedding.mismatch(features, labels)) == pytest.approx(expected, rel=1e-5)


def test_the_mismatch_is_unbiased_in_the_fakes() -> None:
    population = torch.randn(6, 5, generator=torch.Generator().manual_seed(2))
    embedding = Embedding(torch.randn(1, 5, generator=torch.Generator().manual_seed(3)), torch.ones(1))
    truth = float(population.mean(0).square().sum() - 2 * population.mean(0) @ embedding.mean[0])
    draws = [population[[i, j]] for i in range(6) for j in range(6)]  # all independent samples of two
    figures = [float(embedding.mismatch(pair, torch.zeros(2, dtype=torch.int64))) for pair in draws]
    assert sum(figures) / len(figures) == pytest.approx(truth, abs=1e-5)


def test_gradients_flow_to_the_fakes_and_make_them_match() -> None:
    features = Features.of(ASKED, (1, 8, 8), Seeds(1))
    labels = torch.zeros(6, dtype=torch.int64)
    total = patient_sum(features(_images(6, 8)), labels, torch.arange(6), 1, WEIGHT)
    embedding = Embedding.read(total, WEIGHT)
    fakes = (-_images(6, 8, seed=5)).requires_grad_()
    before = embedding.mismatch(features(fakes), labels)
    (gradient,) = torch.autograd.grad(before, fakes)
    assert float(gradient.flatten(1).norm(dim=1).min()) > 0
    assert bool(embedding.mismatch(features(fakes - gradient), labels) < before)


def test_a_class_of_noise_alone_does_not_rule_the_others() -> None:
    features = torch.eye(8)[torch.tensor([0, 1, 0, 1])].requires_grad_()
    labels = torch.tensor([0, 0, 1, 1])

    def pulls(length: float) -> list[float]:
        mean = torch.stack([torch.eye(8)[2] * 0.9, torch.eye(8)[3] * length])
        mismatch = Embedding(mean, torch.ones(2)).mismatch(features, labels)
        (gradient,) = torch.autograd.grad(mismatch, features)
        return [float(part.norm()) for part in gradient.split(2)]

    of_real, of_noise = pulls(60.0)
    assert of_real == pulls(0.9)[0]
    assert of_noise < 8 * of_real
    assert pulls(4.9)[1] > 4 * pulls(0.5)[1]  # what noise leaves of a class of some size counts in full


def test_where_no_class_has_two_fakes_the_mismatch_is_zero_with_zero_gradients() -> None:
    embedding = Embedding(torch.ones(3, 5), torch.ones(3))
    features = torch.randn(3, 5).requires_grad_()
    mismatch = embedding.mismatch(features, torch.arange(3))
    (gradient,) = torch.autograd.grad(mismatch, features)
    assert float(mismatch.detach()) == 0
    assert float(gradient.abs().max()) == 0


def test_texture_that_two_modalities_share_upside_down_is_seen_only_apart() -> None:
    image = _images(1)[:, :1]
    shown, flat = torch.cat([image, -image], dim=1), torch.zeros(1, 2, 28, 28)
    for apart in (False, True):
        features = Features.of(TEXTURES, (2, 28, 28), Seeds(0), apart=apart)
        found = torch.cat([features(shown), features(flat)])[:, -TEXTURES.frequencies :]
        assert features(shown).norm(dim=1) == pytest.approx(1, abs=1e-5)
        assert features.size == 2 * TEXTURES.frequencies * 2
        assert torch.allclose(found[0], found[1], atol=1e-5) is not apart
        assert features.to(torch.device("cpu")).apart is apart
