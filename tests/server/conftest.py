from collections.abc import Iterator

import pytest
import torch

from medgan_core.evaluate import utility

__all__ = ["_little_work"]


@pytest.fixture(autouse=True, scope="module")
def _little_work() -> Iterator[None]:
    """One core, and a classifier of a few steps: these tests are about messages."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utility, "MINIMUM_STEPS", 2)
        yield
    torch.set_num_threads(before)
