import numpy as np
import pytest
import torch
from torch import nn

from medgan_core.errors import IntegrityError
from medgan_core.tensors import load, seeded, state_of, tensors, weights_of


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_weights_are_parameters_alone_and_state_is_all() -> None:
    made = network()
    assert set(weights_of(made)) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert set(state_of(made)) == {
        *weights_of(made),
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
    }
    assert state_of(made)["1.num_batches_tracked"].shape == ()


def test_weights_are_copies() -> None:
    made = network()
    before = weights_of(made)
    kept = {name: array.copy() for name, array in before.items()}
    with torch.no_grad():
        next(made.parameters()).add_(1)
    assert all(np.array_equal(before[name], kept[name]) for name in kept)


def test_weights_are_plain_arrays_whatever_the_layout_of_the_network() -> None:
    made = nn.Conv2d(3, 4, 3)
    made.weight.data = made.weight.data.contiguous(memory_format=torch.channels_last)
    for taken in (weights_of(made), state_of(made)):
        assert all(array.flags.c_contiguous for array in taken.values())
        assert torch.equal(torch.from_numpy(taken["weight"]), made.weight.data)


def test_what_was_taken_can_be_loaded_and_shares_no_memory() -> None:
    source, target = network(), network()
    arrays = state_of(source)
    load(target, arrays)
    assert all(np.array_equal(array, arrays[name]) for name, array in state_of(target).items())
    arrays["0.weight"][:] = 7
    assert not (state_of(target)["0.weight"] == 7).any()


def test_buffers_may_be_missing() -> None:
    source, target = network(), network()
    load(target, weights_of(source))
    assert np.array_equal(weights_of(target)["0.weight"], weights_of(source)["0.weight"])


@pytest.mark.parametrize("name", ["missing", "unknown", "misshapen"])
def test_weights_that_do_not_fit_are_refused_by_name_and_change_nothing(name: str) -> None:
    target = network()
    before, arrays = state_of(target), {key: array + 1 for key, array in weights_of(target).items()}
    if name == "missing":
        del arrays["1.bias"]
    elif name == "unknown":
        arrays["2.bias"] = arrays["1.bias"]
    else:
        arrays["1.bias"] = arrays["1.bias"][:1]
    with pytest.raises(IntegrityError, match=r"Sequential.*: [12]\.bias$"):
        load(target, arrays)
    assert all(np.array_equal(array, before[key]) for key, array in state_of(target).items())


def test_arrays_become_tensors_of_the_same_dtype_and_shape() -> None:
    made = tensors({"a": np.array(3), "b": np.zeros((0, 2), dtype=np.float32), "c": np.array([True])})
    assert {name: (t.dtype, tuple(t.shape)) for name, t in made.items()} == {
        "a": (torch.int64, ()),
        "b": (torch.float32, (0, 2)),
        "c": (torch.bool, (1,)),
    }


def test_a_seeded_network_depends_on_its_seed_alone() -> None:
    one = weights_of(seeded(network, 5))
    torch.randn(3)
    assert np.array_equal(weights_of(seeded(network, 5))["0.weight"], one["0.weight"])
    assert not np.array_equal(weights_of(seeded(network, 6))["0.weight"], one["0.weight"])


def test_seeding_a_network_leaves_the_global_generator_as_it_was() -> None:
    before = torch.get_rng_state()
    seeded(network, 5)
    assert torch.equal(torch.get_rng_state(), before)
