"""Norms from factors: exact where large terms cancel, where many are alike, and past float32's range."""

import pytest
import torch
from torch import Tensor

from medgan_core.privacy import norms
from medgan_core.privacy.norms import WeightGradients

COUNTS = [1, 1, 2, 3]


def factors(a: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """Two groups of [positions, 3] and [positions, 4] lie in `a` and `g` as they are."""
    return g, a


def taps(seed: int, images: int = sum(COUNTS), positions: int = 5) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    a = torch.randn(images, 2, positions, 4, generator=random)
    return a, torch.randn(images, 2, positions, 3, generator=random)


def exact(calls: list[tuple[Tensor, Tensor]], counts: list[int]) -> Tensor:
    """Patients' gradients [patients, groups, 3, 4] in float64."""
    by_image = sum(torch.einsum("ngto,ngtp->ngop", g.double(), a.double()) for a, g in calls)
    assert isinstance(by_image, Tensor)
    return torch.stack([part.sum(0) for part in by_image.split(counts)])


@pytest.mark.parametrize("cost", [0, 10**9])
@pytest.mark.parametrize("at_once", [1, 200, 1 << 20])
@pytest.mark.parametrize("kept", [0, 1 << 24])
def test_norms_and_sums_are_by_patient_over_all_calls(
    cost: int, at_once: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(norms, "_FLOAT64_COST", cost)
    monkeypatch.setattr(norms, "_AT_ONCE", {"cpu": at_once})
    monkeypatch.setattr(norms, "_KEPT", kept)
    calls = [taps(0), taps(1, positions=2)]
    gradients, found = exact(calls, COUNTS), WeightGradients(factors, calls, COUNTS)
    squares, terms = found.squares().unbind(1)
    assert torch.allclose(squares, gradients.flatten(1).square().sum(1), rtol=1e-5)
    assert found.by_gram is (cost == 0)
    assert bool((terms >= squares).all()) if cost == 0 else float(terms.abs().max()) == 0
    if not found.by_gram:
        multipliers = torch.tensor([0.5, 0.0, 2.0, 1.0], dtype=torch.float64)
        total = torch.einsum("m,mgop->gop", multipliers, gradients)
        assert torch.allclose(found.weighted(multipliers).double(), total, atol=1e-5)


@pytest.mark.parametrize(
    ("counts", "positions", "by_gram"), [([1], 15, True), ([1], 16, False), ([2], 7, True), ([2], 8, False)]
)
def test_the_cheaper_way_to_a_norm_is_taken(counts: list[int], positions: int, by_gram: bool) -> None:
    """Gram matrices take 2 t² (o + p) multiplications at the price of two, gradients t o p: o = p = 64."""
    rows = torch.ones(sum(counts), 1, positions, 64)
    assert WeightGradients(factors, [(rows, rows)], counts).by_gram is by_gram


def test_gram_matrices_see_what_is_left_when_large_terms_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norms, "_FLOAT64_COST", 0)
    a, g = taps(0, images=2)
    g[1], a[1] = -g[0], a[0] * (1 + 2.0**-12)
    (squares, _) = WeightGradients(factors, [(a, g)], [2]).squares()[0]
    assert float(squares) == pytest.approx(float(exact([(a, g)], [2]).square().sum()), rel=1e-6)


@pytest.mark.parametrize("value", [0.1, 0.3, 1e-10, 1e15, 1e25, 1e-15, 3e-19, 1e-22, 1e-30, 1e-37, 0.0])
@pytest.mark.parametrize("size", [(7, 3), (64, 128), (256, 2048)])
def test_the_norm_of_a_large_gradient_is_exact_at_any_scale(value: float, size: tuple[int, int]) -> None:
    gradient = torch.full((2, 1, *size), value)
    expected = (size[0] * size[1]) ** 0.5 * float(gradient[0, 0, 0, 0])
    assert norms._square(gradient).sqrt().tolist() == pytest.approx([expected] * 2, rel=3e-7)


def test_the_bound_of_the_terms_grows_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norms, "_FLOAT64_COST", 0)
    a, g = taps(0, images=2)
    (_, terms) = WeightGradients(factors, [(a, g)], [2]).squares()[0]
    by_group = [a[:, i].double().square().sum() * g[:, i].double().square().sum() for i in (0, 1)]
    assert float(terms) == pytest.approx((2 * 5 + 2) ** 2 * float(sum(by_group)), rel=1e-12)
