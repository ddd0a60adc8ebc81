"""Memory settings that a process must have from its start, and a start with them.

Training takes and frees the same large blocks in every step. By default glibc hands them back to the system
each time and fetches them again page by page.
"""

import os
import sys
from collections.abc import Mapping

SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 33),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 35),
    "MALLOC_TOP_PAD_": str(1 << 28),
}
"""Of glibc (mallopt(3), environment variables), in bytes: keep freed memory, and grow by 256 MiB."""


def keeping_freed_memory(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program that trains: with `SETTINGS`, unless a person has set one of them."""
    wanted = {} if sys.platform != "linux" or SETTINGS.keys() & environment.keys() else SETTINGS
    return {**environment, **wanted}


def keep_freed_memory() -> None:
    """Start this program again, in the same process, with `SETTINGS`; its children inherit them.

    Does nothing where a person has set one of them already, and on systems other than Linux.
    """
    if (wanted := keeping_freed_memory(os.environ)) != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)
