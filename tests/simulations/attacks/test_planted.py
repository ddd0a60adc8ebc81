"""Patterns land where they should, and the search finds what is there and nothing else."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from simulations.attacks.planted import likeness, patch, plant, planted, search, text
from tests.simulations.attacks.making import site, smooth

NEVER = {"patch": [patch(n) for n in range(1000, 1099)], "text": [text(n) for n in range(1000, 1099)]}


def test_only_the_chosen_patients_carry_the_pattern() -> None:
    before = site(5)
    after = plant(before, [1, 3], [patch(0), text(0)])
    changed = (after.training.images != before.training.images).flatten(1).any(1)
    assert changed.tolist() == [False, True, False, True, False]
    assert (likeness(after.training.images[changed], [patch(0)]) > 0.999).all()
    assert (plant(before, None, [patch(0)]).training.images != before.training.images).flatten(1).any(1).all()


def test_nothing_of_the_site_given_is_changed() -> None:
    there = site(3)
    kept = there.training.images.clone()
    plant(there, None, [patch(0)])
    assert torch.equal(there.training.images, kept)


@given(st.integers(-2, 2), st.integers(-1, 2))
def test_a_pattern_is_found_two_pixels_beside_its_place(rows: int, columns: int) -> None:
    own = text(0)
    beside = type(own)(own.name, own.pixels, own.row + rows, own.column + columns)
    assert float(likeness(planted(smooth(1), [beside]), [own])) > 0.999


def test_a_flat_window_is_like_nothing() -> None:
    assert float(likeness(torch.zeros(1, 1, 28, 28), [patch(0)])) == 0.0


@pytest.mark.parametrize("make", [patch, text])
def test_faint_copies_in_a_part_of_the_images_are_found(make) -> None:  # type: ignore[no-untyped-def]
    clean, reference = smooth(200, seed=1), smooth(200, seed=2)
    clean[:30] = 0.7 * clean[:30] + 0.3 * planted(clean[:30], [make(0)])
    found = search(clean, reference, make(0), NEVER[make.__name__])
    assert found.found
    assert found.rate > found.reference + 0.1


def test_patterns_that_nobody_planted_are_found_as_rarely_as_said() -> None:
    images, reference = smooth(100, seed=1), smooth(100, seed=2)
    found = [search(images, reference, patch(number), NEVER["patch"]).found for number in range(60)]
    assert sum(found) <= 8


def test_two_seeds_make_two_patterns_of_one_size() -> None:
    for make in (patch, text):
        assert make(0).pixels.shape == make(1).pixels.shape
        assert not torch.equal(make(0).pixels, make(1).pixels)
        assert torch.equal(make(0).pixels, make(0).pixels)
        assert float(make(0).pixels.min()) == -1
        assert float(make(0).pixels.max()) == 1
