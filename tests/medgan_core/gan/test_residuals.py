"""How abnormal an image is, by the texture that was not drawn again."""

import torch

from medgan_core.gan.residuals import abnormal_map, abnormal_probability

FLAT = torch.zeros(2, 1, 32, 32)
WAVES = torch.sin(torch.arange(32) * 2 * torch.pi / 6).expand(2, 1, 32, 32)


def test_what_is_drawn_again_exactly_is_normal_everywhere() -> None:
    assert (abnormal_map(WAVES, WAVES) == -1).all()
    assert (abnormal_probability(WAVES, WAVES) < 1e-12).all()


def test_more_texture_left_over_is_more_abnormal() -> None:
    found = [float(abnormal_probability(strength * WAVES, FLAT)[0]) for strength in (0.0, 0.1, 0.3, 1.0)]
    assert found == sorted(found)
    assert found[0] < 0.01
    assert found[-1] > 0.99
    assert found[1] < found[2] < 1


def test_the_map_has_the_images_size_and_shows_the_place() -> None:
    image = FLAT.clone()
    image[..., :16] = WAVES[..., :16]
    shown = abnormal_map(image.expand(2, 3, 32, 32), FLAT.expand(2, 3, 32, 32))
    assert shown.shape == (2, 1, 32, 32)
    assert (shown[..., :12] > 0.3).all()
    assert (shown[..., 24:] < -0.9).all()
