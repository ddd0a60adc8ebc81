"""What segmentation is compared with."""

from simulations.benchmarks.tasks.case import Judge
from simulations.benchmarks.tasks.federated import medgan, pooled, without_discriminator

METHODS: dict[str, Judge] = {
    "medgan": medgan,
    "no-discriminator": without_discriminator,
    "pooled-unet": pooled,
}
