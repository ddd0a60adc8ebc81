"""The units that are shipped: systemd takes them, and the trainer's has no network."""

import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "client" / "systemd"
NAMES = ("medgan-trainer.service", "medgan-node.service")
analyze = shutil.which("systemd-analyze")


def settings(name: str) -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in (UNITS / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


@pytest.mark.skipif(analyze is None, reason="systemd-analyze is not installed here")
@pytest.mark.parametrize("name", NAMES)
def test_systemd_takes_the_unit_without_a_word(tmp_path: Path, name: str) -> None:
    """With a program that exists here in the place of the installed one."""
    for unit in NAMES:
        text = (UNITS / unit).read_text().replace("/opt/medgan/bin/medgan-client", sys.executable)
        (tmp_path / unit).write_text(text)
    done = subprocess.run([str(analyze), "verify", str(tmp_path / name)], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.skipif(analyze is None, reason="systemd-analyze is not installed here")
@pytest.mark.parametrize("name", NAMES)
def test_systemd_calls_its_exposure_low(name: str) -> None:
    argv = [str(analyze), "security", "--offline=true", "--threshold=20", str(UNITS / name)]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


def test_the_trainer_has_no_network_and_the_node_no_data() -> None:
    trainer, node = map(settings, NAMES)
    assert trainer["PrivateNetwork"] == ["yes"]
    assert trainer["RestrictAddressFamilies"] == ["AF_UNIX"]
    assert trainer["User"] != node["User"]
    assert trainer["SupplementaryGroups"] == node["Group"]
    hidden = " ".join(node["InaccessiblePaths"])
    assert all(name in hidden for name in ("keys", "ledger", "runs", "studies", "data"))


@pytest.mark.parametrize("name", NAMES)
def test_both_are_hardened_and_always_come_back(name: str) -> None:
    unit = settings(name)
    for key in (
        "NoNewPrivileges",
        "PrivateTmp",
        "ProtectControlGroups",
        "RestrictNamespaces",
        "LockPersonality",
    ):
        assert unit[key] == ["yes"]
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["CapabilityBoundingSet"] == [""]
    assert unit["Restart"] == ["always"]
    assert unit["StartLimitIntervalSec"] == ["0"]  # an absence of days does not end it


def test_each_runs_its_part_alone() -> None:
    starts = [settings(name)["ExecStart"][0].split("medgan-client ")[1] for name in NAMES]
    assert starts == [
        "run --site /var/lib/medgan/site --only trainer",
        "run --site /var/lib/medgan/site --only node --node-home /var/lib/medgan-node",
    ]
