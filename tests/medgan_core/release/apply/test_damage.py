"""What a person says of the damage is what the network was told in training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medgan_core.errors import DataError, InputError
from medgan_core.gan.corruptions import BLUR, CORRUPTIONS, NOISE
from medgan_core.release.apply.damage import Damage, damage_of

IMAGE = torch.rand(1, 32, 32) * 2 - 1


@pytest.mark.parametrize(("name", "limits"), [("noise", NOISE), ("blur", BLUR)])
def test_codes_are_those_of_training(name: str, limits: tuple[float, float]) -> None:
    """The code of a strength grows in step with it: the ends of what training draws are the ends here."""
    random = torch.Generator().manual_seed(0)
    drawn = [float(CORRUPTIONS[name](IMAGE, random)[1][0, 0, 0]) for _ in range(50)]
    low, high = (float(Damage(name, limit).inputs(IMAGE[None])[0, 1, 0, 0]) for limit in limits)
    assert low <= min(drawn) <= low + 0.1 * (high - low)
    assert high - 0.1 * (high - low) <= max(drawn) <= high


@pytest.mark.parametrize("name", ["superres2", "superres4"])
def test_a_coarse_image_comes_to_the_network_as_in_training(name: str) -> None:
    damage = damage_of(name)
    spoiled, code = CORRUPTIONS[name](IMAGE, torch.Generator())
    small = torch.nn.functional.avg_pool2d(IMAGE[None], damage.factor)
    torch.testing.assert_close(damage.inputs(small)[0], torch.cat([spoiled, code]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("corruption", "options", "words"),
    [
        ("noise", {}, "undoes noise: give --noise"),
        ("noise", {"blur": 1.0}, r"--blur 1\.0: this release undoes noise; give --noise"),
        ("noise", {"noise": 0.9}, r"--noise 0\.9: the network was trained on 0\.05 to 0\.2"),
        ("blur", {"blur": float("nan")}, "--blur nan: the network was trained on"),
        ("superres2", {"scale": 4}, "--scale 4: this release undoes superres2; give --scale 2"),
        ("superres2", {"scale": 3}, "--scale 3: this release undoes superres2"),
        ("mixed", {}, "undoes mixed: give one of --noise, --blur, --holes or --scale"),
        ("mixed", {"noise": 0.1, "blur": 1.0}, "and no other of"),
        ("mixed", {"scale": 8}, "--scale 8: this release undoes mixed"),
        ("inpaint", {"holes": Path("nowhere.png")}, "--holes nowhere.png: no such file"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    corruption: str, options: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        damage_of(corruption, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("corruption", "options", "words", "factor"),
    [
        ("mixed", {"noise": 0.1}, "noise 0.1", 1),
        ("mixed", {"scale": 4}, "4 times the resolution", 4),
        ("superres2", {}, "2 times the resolution", 2),
        ("blur", {"blur": 1.5}, "blur 1.5 pixels", 1),
    ],
)
def test_what_fits(corruption: str, options: dict[str, float], words: str, factor: int) -> None:
    damage = damage_of(corruption, **options)  # type: ignore[arg-type]
    assert (damage.words(), damage.factor) == (words, factor)


def test_holes_of_a_file(tmp_path: Path) -> None:
    hole = np.zeros((20, 30), np.uint8)
    hole[3:8, 5:9] = 255
    Image.fromarray(hole).save(tmp_path / "a.png")
    np.savez(tmp_path / "b.npz", hole=hole)
    for name in ("a.png", "b.npz"):
        found = damage_of("inpaint", holes=tmp_path / name).holes_of(torch.zeros(2, 1, 20, 30))
        assert found is not None
        np.testing.assert_array_equal(found[1].numpy(), hole > 0)
    with pytest.raises(DataError, match="2 images of 21×30 pixels, but --holes is of shape 20×30"):
        damage_of("inpaint", holes=tmp_path / "a.png").holes_of(torch.zeros(2, 1, 21, 30))
    Image.fromarray(hole + np.arange(30, dtype=np.uint8)).save(tmp_path / "grey.png")
    with pytest.raises(DataError, match="not binary"):
        damage_of("inpaint", holes=tmp_path / "grey.png")
