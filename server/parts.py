"""Through tensors part by part, so that what is computed of many updates needs little memory."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from medgan_core.messages import Array

PART = 1 << 18
"""Numbers in a part: one of each site fits into a core's own cache, with what is computed of it."""
_STACKED = 1 << 21
_MOST_THREADS = 4


def part_of(sites: int) -> int:
    """Numbers in a part where those of all sites are in memory at once: fewer for many sites."""
    return max(1, min(PART // 8, _STACKED // sites))


def each_part(like: Mapping[str, Array], work: Callable[[str, int, int], None], length: int = PART) -> None:
    """Call `work(name, start, stop)` for the parts of all tensors, on the cores that this process may use.

    Parts know nothing of each other, so the result does not depend on how many cores there are.
    """
    parts = [
        (name, start, min(start + length, array.size))
        for name, array in like.items()
        for start in range(0, array.size, length)
    ]
    threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
    if threads == 1 or sum(array.size for array in like.values()) <= length:
        for part in parts:
            work(*part)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, *part) for part in parts]:
            done.result()
