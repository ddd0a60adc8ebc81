import pytest
import torch

from medgan_core.evaluate.attacks.stand_ins import edges_of, stand_ins
from medgan_core.evaluate.attacks.views import less_mirrored, mirrored, moved, small
from tests.medgan_core.evaluate.shapes import shapes

IMAGES, LABELS = shapes(200, 1)


def test_images_are_moved_by_one_pixel_to_all_four_sides() -> None:
    views = moved(IMAGES)
    assert torch.equal(views[0][:, :, 1:], IMAGES[:, :, :-1])
    assert torch.equal(views[1][:, :, :-1], IMAGES[:, :, 1:])
    assert torch.equal(views[2][..., 1:], IMAGES[..., :-1])
    assert torch.equal(views[3][..., :-1], IMAGES[..., 1:])
    assert torch.equal(views[0][:, :, 0], IMAGES[:, :, 0])


def test_half_of_the_mirror_images_score_is_taken_off() -> None:
    left = less_mirrored(lambda images, labels: images[:, 0, :, :14].mean(dim=(1, 2)))
    other = mirrored(IMAGES)[:, 0, :, :14].mean(dim=(1, 2))
    assert torch.allclose(left(IMAGES, LABELS), IMAGES[:, 0, :, :14].mean(dim=(1, 2)) - other / 2)


@pytest.mark.parametrize(
    ("shape", "numbers"),
    [((1, 28, 28), 784), ((1, 128, 128), 1024), ((3, 64, 64), 3072), ((16, 32, 32), 4096)],
)
def test_images_are_compared_by_a_bounded_number_of_pixels(shape: tuple[int, int, int], numbers: int) -> None:
    assert small(torch.zeros(2, *shape)).shape == (2, numbers)


def test_stand_ins_are_like_their_images_and_copies_of_none() -> None:
    made = stand_ins(IMAGES, LABELS, torch.Generator().manual_seed(0))
    both = torch.cat([IMAGES, mirrored(IMAGES)])
    for label in (0, 1):
        mine, theirs = made[label == LABELS], both[LABELS.repeat(2) == label]
        assert torch.allclose(mine.mean(dim=0), theirs.mean(dim=0), atol=0.25)
        assert float(mine.std(dim=0).mean()) == pytest.approx(float(theirs.std(dim=0).mean()), rel=0.2)
    distances = torch.cdist(made.flatten(1), both.flatten(1))
    assert float(distances.min()) > 0.1 * float(distances.median())
    assert float(made.abs().max()) <= 1


def test_edges_divide_scores_evenly_and_are_finite() -> None:
    scores = torch.rand(1200, generator=torch.Generator().manual_seed(1))
    bins = (scores[:, None].double() > edges_of(scores)).sum(dim=1)
    assert bins.bincount().tolist() == [100] * 12
    assert edges_of(torch.tensor([float("nan"), float("inf"), -float("inf")])).isfinite().all()
