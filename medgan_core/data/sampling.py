"""Poisson sampling of patients: each joins a step by its own secret coin, whatever the others do."""

import torch
from torch import Tensor

from medgan_core.data.source import SiteData


class PatientImages:
    """Where each patient's images lie, so that a sample of patients is a gather and not a search."""

    def __init__(self, data: SiteData) -> None:
        self.data = data
        self.order = data.owner.argsort(stable=True)
        self.counts = data.owner.bincount(minlength=len(data))
        self.starts = self.counts.cumsum(0) - self.counts

    def sample(self, coins: Tensor, sampling_rate: float) -> tuple[Tensor, Tensor, Tensor]:
        """Images, labels and owners (0, 1, …) of the patients whose coin, uniform in [0, 1), is below q."""
        chosen = (coins < sampling_rate).nonzero().squeeze(1)
        counts = self.counts[chosen]
        owner = torch.repeat_interleave(torch.arange(len(chosen)), counts)
        within = torch.arange(len(owner)) - (counts.cumsum(0) - counts)[owner]
        images = self.order[self.starts[chosen][owner] + within]
        return self.data.images[images], self.data.labels[images], owner
