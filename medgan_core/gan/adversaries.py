"""The terms of tasks whose fakes are made of patients' images, one value per example each.

MONAI's PatchAdversarialLoss is not among them: its hinge is the mean of a batch, whatever reduction is asked
for, and no patient's own gradient can be clipped in that.
"""

from torch import Tensor, nn

from medgan_core.gan.losses import AdversarialLoss


def mean_of(values: Tensor) -> Tensor:
    """The mean over all but the examples, [b]."""
    return values.flatten(1).mean(dim=1)


def adversarial_terms(
    loss: AdversarialLoss,
    discriminator: nn.Module,
    frozen: nn.Module,
    real: Tensor,
    fake: Tensor,
    weight: float,
) -> Tensor:
    """What discriminator and generator pay for these images, or images beside what they were made of, [b].

    The discriminator learns from `real` and from `fake` as they are; the generator from `weight` times its
    own loss under the `frozen` copy, which learns nothing. So one backward pass gives both networks their own
    gradients, at the same weights.
    """
    own = mean_of(loss.real(discriminator(real))) + mean_of(loss.fake(discriminator(fake.detach())))
    return own + weight * mean_of(loss.generator(frozen(fake)))
