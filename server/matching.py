"""Train the generator to match the released embedding: post-processing, so its length costs no privacy."""

from dataclasses import replace

from torch import nn, optim

from medgan_core.config import OneShotConfig
from medgan_core.device import check_compiler
from medgan_core.gan.steps import Anchor, generator_step, labels_to_match
from medgan_core.gan.task import SynthesisTask
from medgan_core.privacy.embedding import Embedding, Features
from medgan_core.seeds import Seeds
from server.weighting import Weighting, noise_variance, weighting_of

_WEIGHTINGS = 5
_LEAST_STEPS = 20  # between two weightings, each of which takes as long as some ten steps


def match_embedding(
    asked: OneShotConfig,
    task: SynthesisTask,
    generator: nn.Module,
    embedding: Embedding,
    features: Features,
    deviation: float,
    seeds: Seeds,
) -> float:
    """Train `generator` in place by `asked.iterations` steps of Adam, decayed linearly; the last loss.

    Generator, embedding and features are on one device. `deviation` is that of the noise in the released sum.
    After each fifth of the steps, and 20 at least, directions are weighted anew (`Weighting`).
    """
    optimizer = optim.Adam(generator.parameters(), asked.learning_rate)
    decay = optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: max(1 - step / max(asked.iterations, 1), 0.05)
    )
    labels = labels_to_match(asked.batch, len(task.classes)).to(embedding.mean.device)
    random, draws = seeds.child("matching").generator(), seeds.child("weighting").generator()
    variance = noise_variance(embedding, deviation, asked.count_weight)
    anchor, fifth = _anchor(embedding, features), max(asked.iterations // _WEIGHTINGS, _LEAST_STEPS)
    loss = float("nan")
    generator.train()
    if asked.compile:
        check_compiler(embedding.mean.device)
        generator.compile()
    for step in range(asked.iterations):
        if step and step % fifth == 0:
            anchor = _anchor(embedding, features, weighting_of(task, generator, features, variance, draws))
        loss = generator_step(task, generator, None, optimizer, labels, random, anchor=anchor)
        decay.step()
    return loss


def _anchor(embedding: Embedding, features: Features, weighting: Weighting | None = None) -> Anchor:
    if weighting is None:
        return lambda fakes, labels: embedding.mismatch(features(fakes), labels)
    weighted = replace(embedding, mean=weighting(embedding.mean))
    return lambda fakes, labels: weighted.mismatch(weighting(features(fakes)), labels)
