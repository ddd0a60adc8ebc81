"""Images reach weights and metrics of a training round through the engine's clipped sum, and no other way."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import client.training
import medgan_core.gan.networks
from client.asked import RoundResult
from client.round import local_round
from medgan_core.gan.task import SynthesisTask, synthesis_of
from medgan_core.messages import Phase
from medgan_core.privacy.noise import SeededRandom
from medgan_core.seeds import Seeds
from medgan_core.tensors import weights_of
from tests.client.taint import Taint
from tests.client.test_round_privacy import _incoming, _plan, _site, _study, _task


class Watched:
    """A training round under a taint: which networks left it, and whether private data touched them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taint = Taint()
        self.left: list[nn.Module] = []
        self.taint.let_the_engine_through(monkeypatch)

        def leaving(network: nn.Module) -> Any:
            self.left.append(network)
            return weights_of(network)

        def checked(labels: Tensor, classes: int) -> Tensor:
            with self.taint.door(open=True):  # torch looks whether each label is below `classes`
                return nn.functional.one_hot(labels, classes)

        monkeypatch.setattr(medgan_core.gan.networks, "one_hot", checked)
        monkeypatch.setattr(client.training, "weights_of", leaving)

    def run(
        self, change: Callable[[SynthesisTask], SynthesisTask] = lambda task: task, **training: Any
    ) -> RoundResult:
        study, site = _study(**training), _site([1, 2, 3, 1, 2])
        for tensor in (site.training.images, site.training.labels):
            self.taint.mark(tensor)
        request, task = _incoming(study, Phase.TRAIN), change(synthesis_of(_task(study)))
        with self.taint:
            return local_round(
                study, task, _plan(sampling_rate=0.9), site, request, {}, Seeds(5), SeededRandom(1)
            )

    @property
    def touched(self) -> int:
        """How many networks left with weights that private data reached past the door."""
        return sum(any(map(self.taint.marked, network.parameters())) for network in self.left)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


@pytest.mark.parametrize("share", ["both", "generator"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_no_private_tensor_reaches_weights_or_metrics_but_through_the_engine(
    share: str, optimizer: str, watched: Watched
) -> None:
    result = watched.run(share=share, discriminator_optimizer=optimizer)
    assert len(watched.left) == 2
    assert watched.touched == 0
    assert watched.taint.read == []
    assert set(result.metrics) == {"generator_loss", "discriminator_accuracy_on_fakes", "discriminator_steps"}


class Leak:
    """A task that keeps an image aside in its real loss."""

    def __init__(self) -> None:
        self.kept = torch.zeros(())
        self.number = 0.0

    def task(self, task: SynthesisTask) -> SynthesisTask:
        def real_loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
            self.kept = images.detach().mean()
            return task.real_loss(network, images, labels)

        return replace(task, real_loss=real_loss)


def into(name: str) -> Callable[[SynthesisTask], SynthesisTask]:
    """A leak from the real loss into another function of the task."""
    leak = Leak()

    def change(task: SynthesisTask) -> SynthesisTask:
        def leaky(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
            value: Tensor = getattr(task, name)(network, images + leak.kept, labels)
            return value

        changed: Any = {name: leaky}
        return replace(leak.task(task), **changed)

    return change


def written(task: SynthesisTask) -> SynthesisTask:
    """A leak into the weights past all bookkeeping."""

    def real_loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        next(network.parameters()).data += images.mean()
        return task.real_loss(network, images, labels)

    return replace(task, real_loss=real_loss)


def as_a_number(task: SynthesisTask) -> SynthesisTask:
    """A leak through a Python number, which carries no mark: reading it is noted."""
    numbers: list[float] = [0.0]

    def real_loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        numbers.append(float(images.detach().mean()))
        return task.real_loss(network, images, labels)

    def fake_loss(network: nn.Module, fakes: Tensor, labels: Tensor) -> Tensor:
        return task.fake_loss(network, fakes + numbers[-1], labels)

    return replace(task, real_loss=real_loss, fake_loss=fake_loss)


@pytest.mark.parametrize(
    ("leaky", "touched"),
    [
        (into("fake_loss"), 2),
        (into("generator_loss"), 2),
        (into("rejects"), 0),
        (written, 2),
        (as_a_number, 0),
    ],
    ids=["fakes", "generator", "metric", "weights", "number"],
)
def test_a_leaky_task_is_found_out(
    leaky: Callable[[SynthesisTask], SynthesisTask], touched: int, watched: Watched
) -> None:
    watched.run(leaky)
    assert watched.touched == touched
    assert watched.taint.read
