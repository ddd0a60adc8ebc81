import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medgan_core.errors import ConfigError
from medgan_core.gan.steps import generator_step
from medgan_core.privacy.embedding import Embedding, Features, patient_sum
from medgan_core.seeds import Seeds
from medgan_core.tensors import weights_of
from server.matching import match_embedding
from server.weighting import Weighting, noise_variance, weighting_of
from tests.server.making import Federation, federation


def toy() -> tuple[Embedding, Features]:
    """Class 0 is dark, class 1 is bright; no noise."""
    random = torch.Generator().manual_seed(0)
    features = Features((torch.randn(784, 64, generator=random) / math.sqrt(0.5 * 784),))
    labels = torch.arange(40) % 2
    images = (labels * 1.6 - 0.8)[:, None, None, None].expand(-1, 1, 28, 28)
    return Embedding.read(patient_sum(features(images), labels, torch.arange(40), 2, 0.2), 0.2), features


def matched(of: Federation, generator: nn.Module, deviation: float = 0.0) -> float:
    embedding, features = toy()
    return match_embedding(of.study.one_shot, of.task, generator, embedding, features, deviation, Seeds(0))


def test_matching_lowers_the_mismatch_and_learns_the_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[float] = []

    def watched(*asked: Any, **named: Any) -> float:
        losses.append(generator_step(*asked, **named))
        return losses[-1]

    monkeypatch.setattr("server.matching.generator_step", watched)
    of = federation(one_shot__iterations=60, one_shot__batch=16, one_shot__learning_rate=3e-2)
    embedding, features = toy()
    labels = torch.arange(32) % 2

    def fakes() -> Tensor:
        return of.task.sample(generator, labels, torch.Generator().manual_seed(1))

    torch.manual_seed(0)
    generator = of.task.make_generator()
    before = embedding.mismatch(features(fakes()), labels)
    last = matched(of, generator)
    assert len(losses) == 60
    assert last == losses[-1]
    assert embedding.mismatch(features(fakes()), labels) < before - 0.2
    assert fakes()[labels == 1].mean() > fakes()[labels == 0].mean() + 0.5


@pytest.mark.scenario  # it compiles for half a minute
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own, of torch
def test_a_compiled_generator_learns_the_same() -> None:
    asked = {"one_shot__iterations": 25, "one_shot__batch": 16, "one_shot__learning_rate": 1e-3}
    found = []
    for compiled in (False, True):
        of = federation(one_shot__compile=compiled, **asked)
        torch.manual_seed(0)
        generator = of.task.make_generator()
        matched(of, generator)
        found.append(weights_of(generator))
    plain, fast = found
    assert plain.keys() == fast.keys()
    for name, array in plain.items():
        np.testing.assert_allclose(fast[name], array, rtol=0, atol=1e-3)


def test_a_compiler_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    of = federation(one_shot__compile=True)
    with pytest.raises(ConfigError, match=r"one_shot\.compile = True: expected the C\+\+ compiler"):
        matched(of, of.task.make_generator())


def test_directions_are_weighted_anew_after_each_fifth_by_the_noise_that_was_released(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[float] = []

    def watched(*asked: Any) -> Weighting:
        seen.append(asked[3])
        return weighting_of(*asked)

    monkeypatch.setattr("server.matching.weighting_of", watched)
    for iterations, times in ((19, 0), (41, 2), (110, 4)):
        seen.clear()
        of = federation(one_shot__iterations=iterations, one_shot__batch=4)
        matched(of, of.task.make_generator(), deviation=3.0)
        assert seen == [noise_variance(toy()[0], 3.0, of.study.one_shot.count_weight)] * times


def test_matching_without_iterations_changes_nothing() -> None:
    of = federation(one_shot__iterations=0)
    generator = of.task.make_generator()
    before = weights_of(generator)
    assert math.isnan(matched(of, generator))  # nothing was measured
    assert all((array == before[name]).all() for name, array in weights_of(generator).items())


def test_the_same_seeds_give_the_same_generator() -> None:
    of = federation(one_shot__iterations=21, one_shot__batch=4)
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        generator = of.task.make_generator()
        matched(of, generator)
        results.append(weights_of(generator))
    assert all((results[0][name] == results[1][name]).all() for name in results[0])
