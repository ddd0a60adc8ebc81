import torch
from hypothesis import given
from hypothesis import strategies as st

from medgan_core.seeds import Seeds

PATHS = st.lists(st.text(alphabet="ab/~1", max_size=4), max_size=3).map(tuple)


def test_the_same_path_from_the_same_root_gives_the_same_stream() -> None:
    drawn = [torch.randn(8, generator=Seeds(3).child("site", 1).generator()) for _ in range(2)]
    assert torch.equal(*drawn)


def test_streams_are_those_of_earlier_versions() -> None:
    assert Seeds(0).integer() == 3456079177858693020
    assert Seeds(0).child("site-1", 2).integer() == 6437471197779784396


def test_numbers_and_their_text_name_the_same_child() -> None:
    assert Seeds(0).child(1) == Seeds(0).child("1")
    assert Seeds(0).child("a", "b") == Seeds(0).child("a").child("b")


@given(PATHS, PATHS)
def test_different_paths_give_different_seeds(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert (Seeds(0, one).integer() == Seeds(0, other).integer()) == (one == other)


@given(st.integers(0, 2**63 - 1), PATHS)
def test_seeds_fit_torch(root: int, path: tuple[str, ...]) -> None:
    assert 0 <= Seeds(root, path).integer() < 2**63
    Seeds(root, path).generator()


def test_different_roots_give_different_seeds() -> None:
    assert Seeds(0).child("a").integer() != Seeds(1).child("a").integer()


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    torch.randn(4, generator=Seeds(0).child("x").generator())
    assert torch.equal(torch.get_rng_state(), before)
