"""A release that works on images is verified, opened and used; every other one says what it is for."""

from pathlib import Path

import pytest
import torch

from medgan_core.errors import InputError, ReleaseError
from medgan_core.release.apply.model import Model, opened
from medgan_core.release.apply.pictures import Pictures
from medgan_core.release.bundle import Release
from medgan_core.release.verify import verify_release
from tests.medgan_core.release.apply.making import SIDE, release, still_model
from tests.medgan_core.release.making import build, rewrite

CPU = torch.device("cpu")


@pytest.mark.parametrize(("task", "channels"), [("segmentation", 1), ("restoration", 2), ("translation", 1)])
def test_a_release_is_verified_and_applied(tmp_path: Path, task: str, channels: int) -> None:
    release(tmp_path / "r", task)
    assert verify_release(tmp_path / "r").privacy == "dp"
    assert (tmp_path / "r" / "card.md").read_text().count("\n# Network that ") == 1
    made = Release.open(tmp_path / "r").apply(torch.zeros(3, channels, SIDE, SIDE))
    assert made.shape == (3, 1, SIDE, SIDE)
    assert made.abs().max() <= 1
    for shape in ((3, channels + 1, SIDE, SIDE), (3, channels, SIDE, 2 * SIDE), (channels, SIDE, SIDE)):
        with pytest.raises(InputError, match=rf"expected \[n, {channels}, 32, 32\]"):
            Release.open(tmp_path / "r").apply(torch.zeros(shape))


def test_a_release_draws_or_works_on_images(tmp_path: Path) -> None:
    draws, works = build(tmp_path / "a"), release(tmp_path / "b", "segmentation")
    with pytest.raises(InputError, match="task segmentation is not for medgan generate: use medgan segment"):
        works.sample(3)
    with pytest.raises(InputError, match="task synthesis works on no image: use medgan generate"):
        draws.apply(torch.zeros(1, 1, 28, 28))
    with pytest.raises(InputError, match="task synthesis is not for medgan restore: use medgan generate"):
        opened(draws.folder, "restore")
    with pytest.raises(InputError, match="task segmentation is not for medgan detect: use medgan segment"):
        opened(works.folder, "detect")


def test_a_release_of_other_weights_is_no_release(tmp_path: Path) -> None:
    made = release(tmp_path / "r", "restoration")
    rewrite(made.folder, "generator.json", lambda body: body | {"task": "segmentation"})
    with pytest.raises(
        ReleaseError, match=r"generator\.json: task is segmentation, by card\.json restoration"
    ):
        verify_release(made.folder)


def test_stacks_and_volumes_are_refused_by_name(tmp_path: Path) -> None:
    made = release(
        tmp_path / "r", "restoration", {"data.kind": "dicom", "data.channels": 3, "data.stack": 3}, channels=3
    )
    with pytest.raises(InputError, match="tiny was trained on stacks: expected one of single slices"):
        Model(made, CPU)


def test_weights_that_are_not_finite_at_work_are_found(tmp_path: Path) -> None:
    model = still_model(tmp_path / "r", "translation")
    with torch.no_grad():
        for weight in model._network.parameters():
            weight.fill_(float("inf"))
    with pytest.raises(ReleaseError, match="makes values that are not finite"):
        model.make(Pictures(torch.zeros(1, 1, 40, 40), None, ("a",)))


def test_tiles_and_wholes_see_what_they_are_to_see(tmp_path: Path) -> None:
    """A still translation gives the image at the network's resolution, a still restoration all of it."""
    noise = torch.rand(1, 1, 64, 96) * 2 - 1
    pictures = Pictures(noise, None, ("a",))
    restored = still_model(tmp_path / "a", "restoration").make(pictures).outputs
    translated = still_model(tmp_path / "b", "translation").make(pictures).outputs
    torch.testing.assert_close(restored, noise, atol=1e-5, rtol=0)
    assert translated.shape == noise.shape
    assert translated.std() < 0.6 * noise.std()
