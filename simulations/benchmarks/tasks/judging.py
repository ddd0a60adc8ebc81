"""How a method is judged: by the scores of its task, as a run judges its own generator."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from simulations.benchmarks.tasks.case import Case, Reached
from simulations.outputs import exact_figures

Scores = Callable[[nn.Module, Tensor], Tensor]
"""A generator and the rows of a task to scores of each image, as `PatientTask.scores`."""


class Made(nn.Module):
    """A plain function from inputs [b, i, h, w] to outputs, where a task expects a generator."""

    def __init__(self, make: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.make = make
        self.here = nn.Parameter(torch.zeros(()), requires_grad=False)  # a network's device is its weights'

    def forward(self, inputs: Tensor) -> Tensor:
        """What the function makes of them."""
        return self.make(inputs)


def judged(case: Case, generator: nn.Module, scores: Scores | None = None) -> Reached:
    """What a generator reaches on all held-out patients, by the task's scores or by others like them."""
    task = case.task if scores is None else replace(case.task, scores=scores)
    return Reached(exact_figures(task, generator, case.patients[1]))
