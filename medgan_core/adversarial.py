"""The parts of the adversarial rounds that touch no patient, the same wherever a step is done."""

from collections.abc import Iterable
from functools import lru_cache
from math import inf

import torch
from torch import Tensor, nn, optim

from medgan_core.config import Study
from medgan_core.device import CPU
from medgan_core.gan.losses import LOSSES
from medgan_core.gan.steps import Anchor
from medgan_core.gan.task import GanTask, SynthesisTask
from medgan_core.messages import PROPORTIONS, Array, Arrays
from medgan_core.privacy.embedding import Embedding, Features
from medgan_core.seeds import Seeds


def pace(study: Study, number: int) -> float:
    """The share of the learning rates in a training round: 1 in the first, the study's final in the last."""
    last = max(study.training_rounds - 1, 1)
    done = min((number - 1) / last, 1.0)
    return 1.0 - done * (1.0 - study.training.final_learning_rate)


def ema_decay(study: Study, number: int) -> float:
    """That of the generator's moving average after a training round.

    The study gives it for all steps of a round together, so a joint step has a root of it; the first rounds
    forget faster, since the average has only begun.
    """
    whole = study.training.ema_decay ** (study.rounds / study.training_rounds)
    return float(min(whole, (1 + number) / (10 + number)))


def label_shares(statistics: Arrays, site: str, classes: int) -> Tensor:
    """How often each class is drawn for the discriminator's fakes, [classes].

    As the site itself released by noisy counts, so that its discriminator cannot tell fakes by their label
    where the site has many of one class and few of another; uniform where it released nothing.
    """
    known = statistics.get(f"{PROPORTIONS}{site}")
    return torch.full((classes,), 1.0 / classes) if known is None else torch.tensor(known)


def anchor_of(
    study: Study, task: GanTask, statistics: Arrays, seeds: Seeds, device: torch.device = CPU
) -> Anchor | None:
    """The mismatch of fakes on a device to the released embedding; None where it counts nothing.

    Gradients flow through it.
    """
    if study.training.anchor_weight == 0:
        return None
    features = _features(study, task.image_shape, seeds).to(device)
    released = torch.tensor(statistics["embedding"], device=device)
    embedding = Embedding.read(released, study.one_shot.count_weight)
    return lambda fakes, labels: embedding.mismatch(features(fakes), labels)


@lru_cache(maxsize=1)
def _features(study: Study, image_shape: tuple[int, int, int], seeds: Seeds) -> Features:
    return Features.of(study.one_shot, image_shape, seeds, apart=study.channels_apart)


def mean_fake_loss(task: SynthesisTask, fakes: Tensor, labels: Tensor, network: nn.Module) -> Tensor:
    """The discriminator's mean loss over fakes."""
    return task.fake_loss(network, fakes, labels).mean()


def discriminator_rule(study: Study, number: int, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
    """That of a training round: SGD with momentum moves under privacy noise, Adam does not."""
    asked = study.training
    rate = asked.discriminator_learning_rate * pace(study, number)
    rule: optim.Optimizer
    if asked.discriminator_optimizer == "sgd":
        rule = optim.SGD(parameters, rate, momentum=0.9)
    else:
        rule = optim.Adam(parameters, rate, betas=(0.5, 0.999))
    bound_weights(rule, LOSSES[asked.loss].weight_bound)
    return rule


def generator_rule(study: Study, number: int, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
    """The generator's update rule in a training round."""
    rate = study.training.generator_learning_rate * pace(study, number)
    return optim.Adam(parameters, rate, betas=(0.5, 0.999))


def bound_weights(rule: optim.Optimizer, bound: float) -> None:
    """Have every step of a rule end by cutting its weights to ±`bound`; infinity leaves them.

    Post-processing: by then a private network's weights hold clipped and noised gradients alone.
    """
    if bound == inf:
        return

    @torch.no_grad()
    def cut(*_: object) -> None:
        for group in rule.param_groups:
            for parameter in group["params"]:
                parameter.clamp_(-bound, bound)

    rule.register_step_post_hook(cut)


def hold_near(rule: optim.Optimizer, weight: float) -> None:
    """Have every step of a rule add the gradient of weight/2·‖w - w₀‖², w₀ being the weights as they are now.

    FedProx: Li et al. 2020, https://arxiv.org/abs/1812.06127. It depends on w alone and on no patient of its
    own: in a private network it is added to a gradient that is clipped and noised already.
    """
    if weight == 0:
        return
    parameters = [p for group in rule.param_groups for p in group["params"]]
    origin = [p.detach().clone() for p in parameters]

    def pull(*_: object) -> None:
        for parameter, start in zip(parameters, origin, strict=True):
            if parameter.grad is not None:
                parameter.grad = parameter.grad.add(parameter.detach() - start, alpha=weight)

    rule.register_step_pre_hook(pull)


def take_state(rule: optim.Optimizer) -> dict[str, Array]:
    """What an update rule remembers of the steps before, for `put_state`."""
    flat: dict[str, Array] = {}
    for index, state in rule.state_dict()["state"].items():
        flat |= {
            f"{index}.{k}": torch.as_tensor(v).cpu().numpy().copy() for k, v in state.items() if v is not None
        }
    return flat


def put_state(rule: optim.Optimizer, arrays: Arrays) -> None:
    """Have an update rule go on where `take_state` was called, with its own learning rate."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, array in arrays.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = torch.tensor(array)
    rule.load_state_dict(rule.state_dict() | {"state": state})
