"""From nothing to a signed release with every process that hospitals would run, and one of them killed."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from medgan_core.release.trust import Trust
from medgan_core.release.verify import verify_release
from tests.scenarios.federating import ROOT, settled, until
from tests.simulations.making import study_file, write_set

pytestmark = pytest.mark.scenario
CHARGES = 4  # one-shot query, one training round, gate, evaluation


def test_hospitals_train_over_tls_and_a_trainer_s_death_costs_nothing(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    tmp_path = tmp_path_factory.mktemp("f")  # a socket's path is short
    study, data = study_file(tmp_path), write_set(tmp_path / "data", patients=60)
    code = "from simulations.cli import main; main()"
    words = ["federation", study, "--data", data, "--out", tmp_path / "r"]
    with (tmp_path / "out.log").open("wb") as out:
        playing = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, words)],
            env=settled(),
            cwd=ROOT,
            stdout=out,
            stderr=out,
        )
    try:
        until(
            lambda: playing.poll() is not None or _asked(tmp_path, 1), 400, "round 1", lambda: _told(tmp_path)
        )
        for pid in _trainers(tmp_path, "site-1"):
            os.kill(pid, signal.SIGKILL)
        until(lambda: playing.poll() is not None, 400, "the federation ends", lambda: _told(tmp_path))
    finally:
        if playing.poll() is None:
            playing.terminate()
        playing.wait(90)
    assert playing.returncode == 0, _told(tmp_path)
    folder = Path(_told(tmp_path).splitlines()[-1])
    verified = verify_release(folder / "release")
    assert (verified.privacy, verified.epsilon > 0) == ("dp", True)
    assert any("signed with the keys of 2 sites" in line for line in verified.lines)
    trusted = verify_release(folder / "release", Trust.read(folder / "trust"))
    assert trusted.signers == "2 sites and the coordinator coordinator"
    for site in ("site-1", "site-2"):
        charges = _client("ledger", "--json", "--site", folder / site)
        kinds = [entry["kind"] for entry in json.loads(charges)["entries"]]
        assert (kinds.count("charge"), kinds.count("close")) == (CHARGES, 1)
        log = _client("log", "--site", folder / site)
        assert re.search(r"verified: \d+ lines; \d+ bytes left this site", log)
        assert not _trainers(tmp_path, site)


def _told(folder: Path) -> str:
    return (folder / "out.log").read_text(encoding="utf-8").strip()


def _asked(folder: Path, number: int) -> bool:
    """Whether a hospital's own log says that it was asked for a round."""
    logs = (folder / "r").glob("*/site-1/log.jsonl")
    return any(f'"round": {number},' in path.read_text(encoding="utf-8") for path in logs)


def _trainers(folder: Path, site: str) -> list[int]:
    """The processes that hold the data of a site."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if "--only trainer" in line and str(folder) in line and f"/{site} " in line:
            found.append(int(path.name))
    return found


def _client(*words: object) -> str:
    code = "from client.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        env=settled(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
