"""f-AnoGAN: the encoder and the discriminator learn from normal patients, the decoder from noise alone."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from client.site import SiteWorker
from medgan_core.errors import ConfigError, DataError
from medgan_core.gan.coders import Encoder
from medgan_core.gan.outputs import output_scores
from medgan_core.privacy.noise import SeededRandom
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.tensors import seeded
from tests.client import patient_tasks as tiny

STUDY = tiny.study("anomaly", {"normal": "a"})
TASK = tiny.task_of(STUDY)


def networks() -> nn.ModuleDict:
    return nn.ModuleDict(
        {"generator": seeded(TASK.make_generator, 1), "discriminator": seeded(TASK.make_discriminator, 2)}
    )


def test_no_patient_and_no_noise_reaches_the_decoder() -> None:
    made = networks()
    before = deepcopy(made)
    plan = PrivacyPlan.of(STUDY, "patient")
    optimizer = plan.optimizer(
        made, lambda p: torch.optim.SGD(p, 0.1), SeededRandom(1), free_parts=TASK.free_parts
    )
    data, frozen = tiny.data("anomaly", [1, 2, 1], 3), deepcopy(made)
    optimizer.step(
        lambda network, rows, labels: TASK.patient_loss(made, frozen, rows, labels),
        data.images,
        data.labels,
        data.owner,
    )
    moved = {
        name: not torch.equal(parameter, dict(before.named_parameters())[name])
        for name, parameter in made.named_parameters()
    }
    assert not any(value for name, value in moved.items() if name.startswith("generator.decoder."))
    assert all(value for name, value in moved.items() if not name.startswith("generator.decoder."))


def test_fakes_teach_the_decoder_and_need_no_patient() -> None:
    made = networks()
    assert TASK.free_loss is not None
    loss = TASK.free_loss(made, deepcopy(made), torch.Generator().manual_seed(0))
    decoder = made["generator"].get_submodule("decoder")
    assert all(part.any() for part in torch.autograd.grad(loss, list(decoder.parameters())))


def test_only_normal_images_are_trained_on_and_all_are_judged() -> None:
    assert TASK.trains_on == (0,)
    data = tiny.data("anomaly", [1, 2, 3], 3)
    normal = data.of_labels(TASK.trains_on)
    assert (normal.labels == 0).all()
    assert len(normal.images) == int((data.labels == 0).sum())
    assert set(normal.patients) <= set(data.patients)
    assert TASK.answers(torch.tensor([0, 1, 0])).tolist() == [0, 1, 0]


def test_a_site_without_a_normal_image_is_refused_by_name() -> None:
    site = tiny.site("anomaly")
    site.training.labels[:] = 1
    with pytest.raises(DataError, match="site north: task anomaly needs images of the normal class, a"):
        SiteWorker(STUDY, site, "run", None, None, None)  # type: ignore[arg-type]


def test_the_score_is_a_probability_that_rises_with_the_residual() -> None:
    generator = seeded(TASK.make_generator, 1)
    images = tiny.data("anomaly", [1, 1], 3).images
    again = generator.get_submodule("decoder")(generator.get_submodule("encoder")(images)).detach()
    near, far = output_scores(TASK, generator, again * 0.999), output_scores(TASK, generator, -again.sign())
    for found in (near, far):
        assert found.shape == (2, 1)
        assert ((found >= 0) & (found <= 1)).all()
    assert isinstance(networks()["discriminator"], Encoder)
    assert (far > output_scores(TASK, generator, images).min()).any()


def test_the_map_shows_where_a_texture_is_that_cannot_be_drawn() -> None:
    generator = seeded(TASK.make_generator, 1)
    torch.nn.init.zeros_(generator.get_parameter("decoder.last.weight"))  # it draws flat images
    images = torch.zeros(2, *TASK.image_shape)
    flat = output_scores(TASK, generator, images)
    side = images.shape[-1] // 2
    images[:, :, :side, :side] = torch.sin(torch.arange(side) * 2 * torch.pi / 6)
    with torch.no_grad():
        heat = TASK.apply(generator, images)
    assert heat.shape == (2, 1, *images.shape[2:])
    assert (heat[:, :, : side - 4, : side - 4] > 0.3).all()
    assert (heat[:, :, side + 8 :, side + 8 :] < -0.9).all()
    assert (output_scores(TASK, generator, images) > flat + 0.5).all()


def test_a_class_that_is_none_or_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"mapping\.normal"):
        tiny.task_of(tiny.study("anomaly", {"normal": "z"}))
