import inspect
import pickle

import pytest

from medgan_core import errors
from medgan_core.errors import ConfigError, InputError, IntegrityError, MedGANError, RefusedError, RoundError

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, MedGANError)]


def test_the_drawn_tree_is_the_tree() -> None:
    drawn = errors.__doc__ or ""
    assert len(ALL) == 17
    assert all(kind.__name__ in drawn for kind in ALL)


@pytest.mark.parametrize("kind", ALL)
def test_every_error_has_the_exit_code_of_its_branch(kind: type[MedGANError]) -> None:
    codes = {InputError: 2, RefusedError: 3, IntegrityError: 1, RoundError: 1}
    expected = next((code for branch, code in codes.items() if issubclass(kind, branch)), 1)
    assert kind.exit_code == expected


def test_a_config_error_tells_name_value_and_expectation() -> None:
    error = ConfigError("privacy.epsilon", -1, "greater than 0")
    assert str(error) == "privacy.epsilon = -1: expected greater than 0"
    assert (error.name, error.value, error.expected) == ("privacy.epsilon", -1, "greater than 0")


@pytest.mark.parametrize("kind", ALL)
def test_every_error_reaches_another_process_as_it_was(kind: type[MedGANError]) -> None:
    error = kind("a", 1, "b") if issubclass(kind, ConfigError) else kind("what happened")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes, as Ray's workers do it
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
