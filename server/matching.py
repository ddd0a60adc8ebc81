"""Train the generator to match the released embedding: post-processing, so its length costs no privacy."""

from torch import nn, optim

from medgan_core.config import OneShotConfig
from medgan_core.gan.steps import Anchor, balanced_labels, generator_step
from medgan_core.gan.task import SynthesisTask
from medgan_core.seeds import Seeds


def match_embedding(
    asked: OneShotConfig, task: SynthesisTask, generator: nn.Module, anchor: Anchor, seeds: Seeds
) -> float:
    """Train `generator` in place by `asked.iterations` steps of Adam, decayed linearly; the last loss."""
    optimizer = optim.Adam(generator.parameters(), asked.learning_rate)
    decay = optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: max(1 - step / max(asked.iterations, 1), 0.05)
    )
    labels = balanced_labels(asked.batch, len(task.classes))
    random = seeds.child("matching").generator()
    loss = float("nan")
    generator.train()
    for _ in range(asked.iterations):
        loss = generator_step(task, generator, None, optimizer, labels, random, anchor=anchor)
        decay.step()
    return loss
