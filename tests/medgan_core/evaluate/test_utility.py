from math import isnan

import pytest
import torch
from torch import Tensor

from medgan_core.errors import DataError
from medgan_core.evaluate import utility
from medgan_core.evaluate.utility import class_scores, score, train_classifier
from tests.medgan_core.evaluate.shapes import shapes

PROTOCOL = (utility.EPOCHS, utility.BATCH, utility.MINIMUM_STEPS, utility.LEARNING_RATE)
"""As it is before a fixture of other tests makes it shorter."""


def weights(seed: int) -> Tensor:
    images, labels = shapes(20, 0)
    classifier = train_classifier(images, labels, 2, seed=seed)
    return torch.cat([parameter.detach().flatten() for parameter in classifier.parameters()])


@pytest.mark.usefixtures("few_steps")
def test_learns_shapes_from_few_images() -> None:
    images, labels = shapes(60, 0)
    unseen, truth = shapes(200, 1)
    probabilities = class_scores(train_classifier(images, labels, 2, seed=0), unseen)
    assert probabilities.shape == (200, 2)
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(200, dtype=torch.float64))
    scores = score(probabilities, truth)
    assert scores.auc > 0.95
    assert scores.balanced_accuracy > 0.85


@pytest.mark.usefixtures("few_steps")
def test_is_decided_by_the_seed_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = weights(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    assert torch.equal(weights(1), first)
    assert not torch.equal(weights(2), first)


@pytest.mark.parametrize(("count", "epochs", "steps"), [(9, 2, 12), (9, 5, 15), (60, 1, 15)])
def test_small_sets_get_enough_steps(
    monkeypatch: pytest.MonkeyPatch, count: int, epochs: int, steps: int
) -> None:
    monkeypatch.setattr(utility, "MINIMUM_STEPS", 11)
    taken = []
    step = torch.optim.Adam.step

    def counted(self: torch.optim.Adam) -> None:
        taken.append(self)
        step(self)

    monkeypatch.setattr(torch.optim.Adam, "step", counted)
    images, labels = shapes(count, 0)
    train_classifier(images, labels, 2, seed=0, epochs=epochs, batch=4)
    assert len(taken) == steps


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize(("side", "channels"), [(28, 3), (64, 1), (128, 3)])
def test_takes_other_sizes_and_channels(side: int, channels: int) -> None:
    images, labels = shapes(2, 0, side, channels)
    assert class_scores(train_classifier(images, labels, 3, seed=0), images).shape == (2, 3)


def test_the_protocol_is_fixed() -> None:
    """Figures of all methods and days compare only while nothing of it changes."""
    assert PROTOCOL == (8, 128, 300, 1e-3)
    layers = [str(layer) for layer in utility.make_classifier(1, 10)]  # type: ignore[attr-defined]
    assert layers == [
        "Conv2d(1, 32, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))",
        "ReLU()",
        "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)",
        "Conv2d(32, 64, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))",
        "ReLU()",
        "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)",
        "AdaptiveAvgPool2d(output_size=7)",
        "Flatten(start_dim=1, end_dim=-1)",
        "Dropout(p=0.3, inplace=False)",
        "Linear(in_features=3136, out_features=128, bias=True)",
        "ReLU()",
        "Linear(in_features=128, out_features=10, bias=True)",
    ]


def test_refuses_to_learn_from_nothing() -> None:
    images, labels = shapes(1, 0)
    with pytest.raises(DataError, match="there are none"):
        train_classifier(images[:0], labels[:0], 2, seed=0)


def test_score_by_hand() -> None:
    ones = torch.tensor([0.1, 0.6, 0.4, 0.9], dtype=torch.float64)
    scores = score(torch.stack([1 - ones, ones], dim=1), torch.tensor([0, 0, 0, 1]))
    assert scores.accuracy == 0.75
    assert scores.balanced_accuracy == pytest.approx(5 / 6)
    assert scores.auc == 1.0


def test_score_of_more_classes_is_macro_one_against_rest() -> None:
    right = torch.eye(3, dtype=torch.float64)
    assert score(right, torch.tensor([0, 1, 2])).auc == 1.0
    assert score(right, torch.tensor([1, 2, 0])).auc == pytest.approx(0.25)


def test_a_figure_that_is_not_defined_is_nan() -> None:
    half = torch.full((3, 2), 0.5, dtype=torch.float64)
    one_class = score(half, torch.zeros(3, dtype=torch.int64))
    assert one_class.accuracy == 1.0
    assert isnan(one_class.balanced_accuracy)
    assert isnan(one_class.auc)
    assert isnan(score(half[:0], torch.zeros(0, dtype=torch.int64)).accuracy)
    assert isnan(score(half * float("nan"), torch.tensor([0, 1, 1])).accuracy)
