"""A cap on bytes a second holds over all threads, and pauses grow where an archive may come back."""

import pytest

from medgan_core.data.pacs.pace import Pace, patiently
from medgan_core.errors import SourceError


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_bytes_take_as_long_as_the_cap_says() -> None:
    clock = Clock()
    pace = Pace(1000, clock, clock.sleep)
    for _ in range(5):
        pace.spend(500)
    assert clock.now == pytest.approx(102.5)
    clock.now += 60  # an idle minute saves nothing up
    pace.spend(1000)
    assert clock.now == pytest.approx(163.5)


def test_without_a_cap_nobody_waits() -> None:
    clock = Clock()
    Pace(0, clock, clock.sleep).spend(10**9)
    assert clock.now == 100


@pytest.mark.parametrize(("failures", "waited"), [(0, []), (1, [1.0]), (2, [1.0, 4.0])])
def test_what_may_pass_is_tried_again(failures: int, waited: list[float]) -> None:
    slept: list[float] = []
    left = [failures]

    def action() -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise SourceError("busy", passing=True)
        return "done"

    assert patiently(action, (1.0, 4.0), slept.append) == "done"
    assert slept == waited


@pytest.mark.parametrize(("passing", "pauses"), [(False, 0), (True, 2)])
def test_in_the_end_the_error_is_told(passing: bool, pauses: int) -> None:
    slept: list[float] = []

    def action() -> str:
        raise SourceError("no", passing=passing)

    with pytest.raises(SourceError, match="no"):
        patiently(action, (1.0, 4.0), slept.append)
    assert len(slept) == pauses
