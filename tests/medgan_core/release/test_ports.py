import pytest
import torch

from medgan_core.gan.tasks import make_task
from medgan_core.release.bundle import Release
from medgan_core.release.ports import Applied, ports
from medgan_core.tensors import seeded
from tests.medgan_core.release.making import study_with

SHAPE = (2, 32, 32)


def test_a_generator_that_draws_takes_noise_and_labels(release: Release) -> None:
    port = ports(release.facts.make_task())
    assert port.draws
    assert port.inputs == {"latent": (4 + 7 * 7 + 14 * 14,), "labels": ()}
    assert port.output == (1, 28, 28)


@pytest.mark.parametrize(
    ("task", "inputs", "outputs"),
    [("segmentation", 1, 1), ("restoration", 3, 2), ("translation", 1, 1), ("anomaly", 2, 1)],
)
@pytest.mark.parametrize("paired", [True, False])
def test_the_ports_of_one_that_works_on_images_fit_it(
    task: str, inputs: int, outputs: int, paired: bool
) -> None:
    study = study_with({"task": task, "mapping.width": 4, "mapping.paired": paired, "data.image_size": 32})
    made = make_task(study, SHAPE, ("normal", "pneumonia"))
    port = ports(made)
    assert not port.draws
    assert (port.inputs, port.output) == ({"images": (inputs, 32, 32)}, (outputs, 32, 32))
    network = Applied(made, seeded(made.make_generator, 0)).eval()
    with torch.no_grad():
        drawn = network(torch.randn(2, *port.inputs["images"]))
    assert drawn.shape == (2, *port.output)
    assert drawn.abs().max() <= 1
