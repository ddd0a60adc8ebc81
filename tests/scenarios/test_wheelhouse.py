"""A hospital without internet: installed from a folder of wheels, by the commands of docs/hospital.md."""

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.scenario
ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "hospital.md").read_text(encoding="utf-8")
OFFLINE = ["unshare", "--net"] if os.geteuid() == 0 and shutil.which("unshare") else []


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Emptied at the end: an installation has gigabytes."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def run(*command: str | Path, where: Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=where,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def told(beginning: str) -> Sequence[str]:
    """The arguments of a pip command as the page has it."""
    return PAGE.partition(f"`pip {beginning}")[2].partition("`")[0].split()


def test_wheels_carried_over_are_all_that_an_installation_needs(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    carried = [*told("wheel")[:-1], str(ROOT)]
    asked = subprocess.run(
        [*pip, "wheel", "--quiet", *carried], cwd=folder, capture_output=True, text=True, check=False
    )
    if asked.returncode:
        pytest.skip(f"no wheels could be had: {asked.stderr.strip().splitlines()[-1]}")
    venv.create(folder / "medgan", with_pip=True)
    programs = folder / "medgan" / "bin"
    nowhere = {"PIP_CONFIG_FILE": os.devnull, "PYTHONPATH": ""}
    install = ["-m", "pip", "--quiet", "install", "--no-index", *told("install --no-index")]
    run(*OFFLINE, programs / "python", *install, where=folder, environment=nowhere)
    made = run(
        *OFFLINE,
        programs / "medgan-client",
        "init",
        "site",
        "--name",
        "north",
        where=folder,
        environment=nowhere,
    )
    assert "site north is made" in made
    assert (folder / "site" / "site.toml").is_file()
    shipped = run(
        *OFFLINE, programs / "medgan-sim", "run", "phantoms", "--dry-run", where=folder, environment=nowhere
    )
    assert "epsilon of the run: 10" in shipped
