"""Networks run where a person says, on what this machine has, and nowhere else."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medgan_core.device import CPU, choose, device_name
from medgan_core.errors import ConfigError


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    """This many GPUs, as far as torch says."""
    count: int = request.param
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    return count


def test_the_cpu_is_always_there() -> None:
    assert choose("cpu", "device") == CPU
    assert device_name(CPU).startswith("CPU, ")


@pytest.mark.parametrize("gpus", [0, 1, 2], indirect=True)
def test_auto_is_a_gpu_where_there_is_one(gpus: int) -> None:
    assert choose("auto", "device") == (torch.device("cuda") if gpus else CPU)


@pytest.mark.parametrize("gpus", [0, 1, 2], indirect=True)
@pytest.mark.parametrize(("name", "needed"), [("cuda", 1), ("cuda:0", 1), ("cuda:1", 2), ("cuda:999", 1000)])
def test_a_gpu_that_is_not_there_is_refused_with_what_there_is(name: str, needed: int, gpus: int) -> None:
    if needed <= gpus:
        assert choose(name, "device") == torch.device(name)
        return
    there = ", ".join(["cpu", *(f"cuda:{number}" for number in range(gpus))])
    with pytest.raises(ConfigError, match=f"--device = '{name}'.*this machine: {there};"):
        choose(name, "--device")


@given(name=st.sampled_from(["", "gpu", "cuda:", "cuda:-1", "CPU", "meta", "cuda:1000", "auto ", "mps"]))
def test_only_known_names_are_devices(name: str) -> None:
    with pytest.raises(ConfigError, match=r"--device = .*expected"):
        choose(name, "--device")
