"""Kindness to a server that has patients waiting: a cap on bytes a second, and pauses before trying again."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from medgan_core.errors import SourceError

Sleep = Callable[[float], None]
T = TypeVar("T")
PAUSES = (1.0, 4.0, 15.0)
"""Seconds before each further attempt."""


@dataclass
class Pace:
    """At most `rate` bytes a second over all threads, 0 for no cap; `clock` and `sleep` are others in tests.

    Whoever received n bytes waits until the cap would have allowed them, so that TCP slows the server down.
    """

    rate: float
    clock: Callable[[], float] = time.monotonic
    sleep: Sleep = time.sleep
    _free: float = field(default=0.0, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def spend(self, count: int) -> None:
        """Wait for as long as `count` bytes take."""
        if not self.rate:
            return
        with self._lock:
            now = self.clock()
            self._free = max(self._free, now) + count / self.rate
            wait = self._free - now
        self.sleep(wait)


def patiently(action: Callable[[], T], pauses: tuple[float, ...] = PAUSES, sleep: Sleep = time.sleep) -> T:
    """What `action` returns; it is tried again after each of the pauses where its SourceError may pass."""
    for pause in pauses:
        try:
            return action()
        except SourceError as error:
            if not error.passing:
                raise
        sleep(pause)
    return action()
