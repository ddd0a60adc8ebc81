import math

import torch
from torch import Tensor

from medgan_core.privacy.embedding import Embedding, Features, patient_sum
from medgan_core.seeds import Seeds
from medgan_core.tensors import weights_of
from server.matching import match_embedding
from tests.server.making import federation


def toy() -> tuple[Embedding, Features]:
    """Class 0 is dark, class 1 is bright; no noise."""
    random = torch.Generator().manual_seed(0)
    features = Features((torch.randn(784, 64, generator=random) / math.sqrt(0.5 * 784),))
    labels = torch.arange(40) % 2
    images = (labels * 1.6 - 0.8)[:, None, None, None].expand(-1, 1, 28, 28)
    return Embedding.read(patient_sum(features(images), labels, torch.arange(40), 2, 0.2), 0.2), features


def test_matching_lowers_the_mismatch_and_learns_the_classes() -> None:
    of = federation(one_shot__iterations=60, one_shot__batch=16, one_shot__learning_rate=3e-2)
    embedding, features = toy()
    torch.manual_seed(0)
    generator, losses = of.task.make_generator(), []

    def anchor(fakes: Tensor, labels: Tensor) -> Tensor:
        mismatch = embedding.mismatch(features(fakes), labels)
        losses.append(float(mismatch.detach()))
        return mismatch

    last = match_embedding(of.study.one_shot, of.task, generator, anchor, Seeds(0))
    assert len(losses) == 60
    assert last == losses[-1]
    assert last < losses[0] - 0.2
    labels = torch.arange(32) % 2
    fakes = of.task.sample(generator, labels, torch.Generator().manual_seed(1))
    assert fakes[labels == 1].mean() > fakes[labels == 0].mean() + 0.5


def test_matching_without_iterations_changes_nothing() -> None:
    of = federation(one_shot__iterations=0)
    generator = of.task.make_generator()
    before = weights_of(generator)
    embedding, features = toy()
    last = match_embedding(
        of.study.one_shot, of.task, generator, lambda f, y: embedding.mismatch(features(f), y), Seeds(0)
    )
    assert last != last  # nothing was measured
    assert all((array == before[name]).all() for name, array in weights_of(generator).items())


def test_the_same_seeds_give_the_same_generator() -> None:
    of = federation(one_shot__iterations=3)
    embedding, features = toy()
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        generator = of.task.make_generator()
        match_embedding(
            of.study.one_shot, of.task, generator, lambda f, y: embedding.mismatch(features(f), y), Seeds(0)
        )
        results.append(weights_of(generator))
    assert all((results[0][name] == results[1][name]).all() for name in results[0])
