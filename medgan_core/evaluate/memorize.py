"""Are synthetic images copies of training images? Nearest neighbours, with held-out patients as the control.

A generator that memorises is nearer to the patients it has seen than to equally many it has not. That this
test finds nothing is no proof of privacy: the bound is ε, and attacks see more than a nearest neighbour does
(Meehan et al. 2020, arXiv:2004.05675, is the kin of this figure). The figures stay at the site.
"""

from dataclasses import dataclass
from math import inf, nan

import torch
from torch import Tensor

from medgan_core.evaluate.features import features, shuffled_by_patient, standardized

AT_MOST = 2000


@dataclass(frozen=True)
class Memorization:
    """Nearest-neighbour figures in random-convolution features; nan where there are too few images.

    `to_training`, `to_held_out`: median distance ≥ 0 of a synthetic image to the nearest training and
    held-out image (units of a feature's standard deviation, reference sets of equal size).
    `share_nearer_training` in [0, 1]: the share of synthetic images nearer to training, ties half; near 1 for
    copies; .5 without memorising, with `standard_error` = .5/√(synthetic images), which takes the reference
    sets as given (their draw adds about a tenth, measured on PneumoniaMNIST).
    `baseline_to_training`, `baseline_share`: the same of real held-out images instead of synthetic ones, to
    training and to *other* held-out patients; a share far from .5 says that the two sets differ and that
    the test above means little.
    """

    to_training: float = nan
    to_held_out: float = nan
    share_nearer_training: float = nan
    standard_error: float = nan
    baseline_to_training: float = nan
    baseline_share: float = nan


def memorization(
    training: Tensor,
    training_owner: Tensor,
    held_out: Tensor,
    held_out_owner: Tensor,
    synthetic: Tensor,
    *,
    generator: torch.Generator,
) -> Memorization:
    """Compare the distances of synthetic images to training and to held-out patients.

    Images [n, c, h, w] in [-1, 1], owners [n]: the patient of each real image; all on the CPU. Whole
    patients are drawn with `generator` until both reference sets have as many images as the smaller one, at
    most 2,000; of the last patient a part may be taken. At most 2,000 synthetic images are used.
    """
    size = min(len(training), len(held_out), AT_MOST)
    if size == 0 or len(synthetic) == 0:
        return Memorization()
    seen = shuffled_by_patient(training_owner, generator)[:size]
    unseen = shuffled_by_patient(held_out_owner, generator)[:size]
    drawn = torch.randperm(len(synthetic), generator=generator)[:AT_MOST]
    t, h, s = (features(x) for x in (training[seen], held_out[unseen], synthetic[drawn]))
    t, h, s = standardized_together(t, h, s)
    to_training, to_held_out = (torch.cdist(s, x).min(dim=1).values for x in (t, h))
    # A held-out image may not find its own patient. As many training images are hidden from it, so that both
    # of its reference sets have one size.
    owner = held_out_owner.cpu()[unseen]
    hidden = owner[:, None] == owner
    baseline, control = (torch.cdist(h, x).masked_fill(hidden, inf).min(dim=1).values for x in (t, h))
    return Memorization(
        float(to_training.median()),
        float(to_held_out.median()),
        _share(to_training, to_held_out),
        0.5 / len(s) ** 0.5,
        float(baseline.median()) if not hidden.all() else nan,
        _share(baseline, control) if not hidden.all() else nan,
    )


def standardized_together(training: Tensor, held_out: Tensor, synthetic: Tensor) -> tuple[Tensor, ...]:
    """Features in units of both reference sets together, so that neither is favoured."""
    both = torch.cat([training, held_out])
    return standardized(both, training, held_out, synthetic)[1:]


def _share(near: Tensor, far: Tensor) -> float:
    return float(((near < far).double() + 0.5 * (near == far).double()).mean())
