from math import isfinite, isnan

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from medgan_core.evaluate.fidelity import Fidelity, diversity, fidelity, frechet, kernel
from tests.medgan_core.evaluate.shapes import shapes

COUNT = 600


def noise(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def judged(images: Tensor, labels: Tensor, real: int = COUNT, seed: int = 0) -> Fidelity:
    of_real, of_labels = shapes(real, 1, images.shape[2], images.shape[1])
    owner = torch.arange(real) // 2
    return fidelity(of_real, owner, of_labels, images, labels, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def clean() -> Fidelity:
    return judged(*shapes(COUNT, 2))


@pytest.fixture(scope="module")
def blurred() -> Fidelity:
    images, labels = shapes(COUNT, 2)
    return judged(avg_pool2d(images, 5, stride=1, padding=2, count_include_pad=False), labels)


@pytest.fixture(scope="module")
def noisy() -> Fidelity:
    images, labels = shapes(COUNT, 2)
    return judged((images + 0.3 * noise(tuple(images.shape), 3).float()).clamp(-1, 1), labels)


@pytest.fixture(scope="module")
def of_ten_modes() -> Fidelity:
    images, labels = shapes(COUNT, 2)
    drawn = torch.arange(COUNT) % 10
    return judged(images[drawn], labels[drawn])


def test_as_good_as_real_is_at_the_floor(clean: Fidelity) -> None:
    assert all(isfinite(figure) for figure in vars(clean).values())
    assert clean.frechet_ratio == pytest.approx(1, abs=0.25)
    assert abs(clean.kernel_ratio) < 3
    assert clean.precision > 0.8
    assert clean.recall > 0.8
    assert clean.density == pytest.approx(1, abs=0.2)
    assert clean.coverage > 0.9


def test_ranks_clean_blur_and_noise(clean: Fidelity, blurred: Fidelity, noisy: Fidelity) -> None:
    assert 2 * clean.frechet_ratio < blurred.frechet_ratio < noisy.frechet_ratio
    assert 2 * clean.kernel < blurred.kernel < noisy.kernel
    assert clean.coverage > blurred.coverage > noisy.coverage


def test_coverage_and_recall_see_lost_modes(clean: Fidelity, of_ten_modes: Fidelity) -> None:
    assert of_ten_modes.coverage < 0.3
    assert of_ten_modes.recall < 0.1
    assert of_ten_modes.precision > 0.7
    assert of_ten_modes.frechet_ratio > 3 * clean.frechet_ratio


def test_similarity_within_a_class_sees_one_mode(clean: Fidelity) -> None:
    images, labels = shapes(COUNT, 2)
    of_one = torch.stack([images[labels == label][0] for label in (0, 1)])[labels]
    assert judged(of_one, labels).msssim_synthetic == pytest.approx(1, abs=1e-3)
    assert clean.msssim_synthetic == pytest.approx(clean.msssim_real, abs=0.05)
    assert clean.msssim_real < 0.8


def test_is_decided_by_the_generator(clean: Fidelity) -> None:
    assert judged(*shapes(COUNT, 2)) == clean
    assert judged(*shapes(COUNT, 2), seed=1) != clean


@pytest.mark.parametrize(("side", "channels"), [(32, 3), (128, 1)])
def test_takes_other_sizes_and_channels(side: int, channels: int) -> None:
    assert all(isfinite(f) for f in vars(judged(*shapes(20, 2, side, channels), real=20)).values())


@pytest.mark.parametrize(("real", "synthetic"), [(0, 40), (40, 0), (0, 0), (1, 1), (5, 40)])
def test_too_few_images_give_nan(real: int, synthetic: int) -> None:
    found = judged(*shapes(synthetic, 2), real=real)
    assert isnan(found.frechet)
    assert isnan(found.kernel_ratio)
    assert isnan(found.coverage)


def test_one_patient_has_no_floor() -> None:
    images, labels = shapes(40, 1)
    owner, generator = torch.zeros(40, dtype=torch.int64), torch.Generator().manual_seed(0)
    found = fidelity(images, owner, labels, images, labels, generator=generator)
    assert isnan(found.frechet_ratio)
    assert isnan(found.msssim_real)
    assert found.coverage == 1.0


def test_constant_images_have_no_ratio() -> None:
    images, labels = torch.zeros(40, 1, 28, 28), torch.zeros(40, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    found = fidelity(images, torch.arange(40), labels, images, labels, generator=generator)
    assert isnan(found.frechet_ratio)
    assert found.msssim_real == pytest.approx(1)


def test_images_below_17_pixels_have_no_similarity() -> None:
    images, labels = shapes(8, 0, side=16)
    assert isnan(diversity(images, labels, torch.arange(8), generator=torch.Generator().manual_seed(0)))


def test_frechet_of_known_gaussians() -> None:
    a = noise((20_000, 3), 0)
    b = 2 * noise((20_000, 3), 1) + 1
    assert frechet(a, b) == pytest.approx(3 * 1 + 3 * (2 - 1) ** 2, abs=0.2)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)


def test_kernel_distance_by_its_definition() -> None:
    a, b = noise((6, 4), 0), noise((6, 4), 1) + 1

    def k(x: Tensor, y: Tensor) -> float:
        return float((x @ y / 4 + 1) ** 3)

    within = [sum(k(x[i], x[j]) for i in range(6) for j in range(6) if i != j) / 30 for x in (a, b)]
    across = sum(k(x, y) for x in a for y in b) / 36
    assert kernel(a, b) == pytest.approx(sum(within) - 2 * across)
