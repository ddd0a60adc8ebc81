"""Commands run with memory settings that must be there from the start, unless a person chose others."""

import os
import subprocess
import sys

import pytest

from medgan_core.memory import SETTINGS

PROGRAM = """
import os, sys
from medgan_core.memory import SETTINGS, keep_freed_memory
keep_freed_memory()
print(sys.argv[1:], os.environ.get("BEGAN"), *(os.environ.get(name) for name in SETTINGS))
"""


def said(**environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "a b", "--set"],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="the settings are those of glibc")
def test_a_program_starts_again_with_the_settings_and_its_own_arguments() -> None:
    assert said(BEGAN="here") == f"['a b', '--set'] here {' '.join(SETTINGS.values())}"


def test_what_a_person_has_set_stays() -> None:
    assert said(MALLOC_TOP_PAD_="1") == "['a b', '--set'] None None None 1"
