"""What a network makes of public patients who were held out: its exact scores, and its picture."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from medgan_core.config import Study
from medgan_core.data.source import Site, SiteData
from medgan_core.evaluate.means import judged_sum, read_scores
from medgan_core.evaluate.utility import score
from medgan_core.gan.outputs import output_scores, prepared_alone
from medgan_core.gan.task import Panels, PatientTask
from medgan_core.messages import Arrays, float_to_json
from medgan_core.record import RunFolder, write_json
from medgan_core.tensors import load
from simulations.hospitals import pooled

_EXAMPLES = 6


def exact_scores(
    study: Study, run: RunFolder, sites: Sequence[Site], task: PatientTask, weights: Arrays
) -> dict[str, Any] | None:
    """{"scores": …} of all sites together where images are public; else None, and each site's stay there."""
    if not study.evaluation.reports:
        return None
    generator, card = _generator(task, weights), sites[0].training.card
    if card.public:
        return {"scores": _scores(task, generator, pooled(sites, card)[1])}
    for site in sites:
        write_json(run.site(site.name) / "report.json", _scores(task, generator, site.held_out))
    return None


def panels(task: PatientTask, weights: Arrays, sites: Sequence[Site]) -> Panels:
    """The columns of a picture of a few held-out patients; called only where these are public."""
    with torch.no_grad():
        return task.panels(_generator(task, weights), prepared_alone(task, _examples(sites)))


def _generator(task: PatientTask, weights: Arrays) -> nn.Module:
    generator = task.make_generator()
    load(generator, weights)
    return generator.eval()


def exact_figures(task: PatientTask, generator: nn.Module, data: SiteData) -> dict[str, float]:
    """The figures of a task without noise: means over patients, or accuracy and AUC by image."""
    found, answers = output_scores(task, generator, data.images), task.answers(data.labels)
    if task.trains_on:  # by image, and not by the bins of a histogram
        return asdict(score(torch.cat([1 - found, found], dim=1), answers))
    return dict(read_scores(task.name, judged_sum(task.name, found, answers, data.owner)))


def _scores(task: PatientTask, generator: nn.Module, data: SiteData) -> dict[str, Any]:
    figures = exact_figures(task, generator, data)
    return {name: float_to_json(value) for name, value in figures.items()}


def _examples(sites: Sequence[Site]) -> Tensor:
    """A few images evenly over all held-out patients, each of whom counts once."""
    images = pooled(sites, sites[0].training.card)[1].images
    return images[torch.linspace(0, len(images) - 1, min(len(images), _EXAMPLES)).round().long()]
