"""Where an image says what is made of it."""

import torch
from torch import Tensor

from medgan_core.evaluate.explain import occlusion_maps


def test_the_part_that_a_score_looks_at_is_where_covering_it_counts() -> None:
    images = torch.full((2, 1, 28, 28), -0.5)
    images[0, 0, 2:8, 2:8], images[1, 0, 18:26, 18:26] = 1.0, 1.0

    def bright(part: Tensor) -> Tensor:
        return part.amax(dim=(1, 2, 3)) + part.mean(dim=(1, 2, 3))

    maps = occlusion_maps(bright, images)
    assert maps.shape == images.shape
    assert maps.abs().amax(dim=(1, 2, 3)).allclose(torch.ones(2))
    first, second = (divmod(int(found.flatten().argmax()), 28) for found in maps)
    assert max(first) < 14 <= min(second)


def test_a_score_that_sees_nothing_has_an_empty_map() -> None:
    assert not occlusion_maps(lambda part: torch.zeros(len(part)), torch.rand(1, 1, 28, 28)).any()
