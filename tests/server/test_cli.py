"""`medgan-server` as a person types it."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from medgan_core.privacy.sum_keys import verify_key_of
from medgan_core.public_card import PublicCard
from medgan_core.release.trust import Trust
from server import cli, pki
from server.folder import CoordinatorFolder, held
from server.run_file import RunFiles, SiteStanding
from server.up import UP_LOCK
from tests.server.sites import TestSite
from tests.simulations.making import study_file

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Run a command; exit code, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("MEDGAN_COORDINATOR", str(tmp_path / "c"))

    def called(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["medgan-server", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return int(caught.value.code or 0), told.out, told.err

    return called


@pytest.fixture
def folder(call: Call, tmp_path: Path) -> CoordinatorFolder:
    """A coordinator with two sites."""
    assert call("init", tmp_path / "c", "--host", "fl.example.org")[0] == 0
    for number in (1, 2):
        card = tmp_path / f"{number}.json"
        TestSite(number, tmp_path / "home", tmp_path).card.write(card)
        assert call("enroll", card, "--name", f"site-{number}")[0] == 0
    return CoordinatorFolder.open(tmp_path / "c")


def test_init_makes_all_that_is_needed_and_keeps_secrets(folder: CoordinatorFolder) -> None:
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert folder.secret.stat().st_mode & 0o777 == 0o600
    assert len(folder.secret.read_text().strip()) == 64
    assert folder.release_key.stat().st_mode & 0o777 == 0o600
    assert len(folder.release_key.read_bytes()) == 32
    assert folder.settings().hosts == ("fl.example.org",)
    conf = folder.nginx.read_text()
    assert "server_name fl.example.org;" in conf
    assert 'if ($request_uri !~ "^/v1/fleet/[a-z-]+$") { return 403; }' in conf
    assert (folder.flower / "config.toml").is_file()
    assert (folder.app / "pyproject.toml").is_file()


def test_init_leaves_what_is_there_alone_and_nothing_half_done(call: Call, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "y").touch()
    code, _, said = call("init", tmp_path / "x")
    assert (code, said) == (2, "error: DIR x is not empty: choose a new folder for the coordinator\n")
    code, _, said = call("init", tmp_path / "new", "--host", "a:1")
    assert code == 2
    assert not (tmp_path / "new").exists()
    code, _, said = call("init", tmp_path / "new", "--certificate", tmp_path / "x.pem")
    assert "give all three, or none" in said


def test_init_takes_your_certificate(call: Call, folder: CoordinatorFolder, tmp_path: Path) -> None:
    tls = folder.tls
    given = ("--certificate", tls / "server.pem", "--key", tls / "server.key", "--ca", tls / "ca.crt")
    assert call("init", tmp_path / "mine", *given)[0] == 0
    assert not (tmp_path / "mine" / "tls" / "ca.key").exists()


def test_enroll_and_sites_show_fingerprints_and_revoke_forgets(
    call: Call, folder: CoordinatorFolder, tmp_path: Path
) -> None:
    code, said, _ = call("enroll", tmp_path / "1.json")
    assert "site-1: SHA256:" in said
    assert "compare this fingerprint with the hospital" in said
    assert "as soon as medgan-server up runs" in said
    code, said, _ = call("revoke", "site-1")
    assert code == 0
    code, said, _ = call("sites")
    assert said.startswith("site-2  SHA256:")
    assert len(said.splitlines()) == 1


def test_keys_are_what_verify_trusts(call: Call, folder: CoordinatorFolder, tmp_path: Path) -> None:
    code, said, told = call("keys")
    assert code == 0
    assert said.startswith(folder.public_key.read_text())
    assert told.startswith("coordinator coordinator: SHA256:")
    (tmp_path / "trust.keys").write_text(said)
    trust = Trust.read(tmp_path / "trust.keys")
    assert trust.coordinator(verify_key_of(folder.signing_key()).hex()) == "coordinator"
    cards = [PublicCard.read(path) for path in sorted(folder.sites.glob("*.json"))]
    assert [trust.of_site(card.name) for card in cards] == [frozenset({card.verify_key}) for card in cards]


def test_a_folder_of_an_earlier_version_gets_its_key(folder: CoordinatorFolder) -> None:
    for path in (folder.release_key, folder.public_key):
        path.unlink()
    made = CoordinatorFolder.open(folder.path).trusted_key()
    assert made == folder.trusted_key()
    assert folder.public_key.read_text() == f"{made.line()}\n"


def test_a_certificate_that_expires_is_told_of_by_every_command(
    call: Call, folder: CoordinatorFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> "Later":
            return cls.fromtimestamp((datetime.now(UTC) + timedelta(days=380)).timestamp(), UTC)

    monkeypatch.setattr(pki, "datetime", Later)
    for command in ("sites", "runs"):
        code, _, said = call(command)
        assert code == 0
        assert "warning: certificate server.pem expires in 17 days; renew it: medgan-server renew" in said
    code, said, _ = call("renew")
    assert "valid for 397 days" in said
    assert call("sites")[2] == ""


def test_start_makes_a_run_that_waits_and_runs_lists_it(
    call: Call, folder: CoordinatorFolder, tmp_path: Path
) -> None:
    code, said, told = call("start", study_file(tmp_path), "--set", "rounds=2")
    assert code == 0
    name = said.strip()
    assert "as soon as medgan-server up runs" in told
    assert folder.run(name).study().rounds == 2
    code, said, _ = call("runs")
    assert name in said
    assert "proposing" in said
    with held(folder.path / UP_LOCK, ""):
        assert "within seconds" in call("stop", name)[1]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--sites", "site-1,x"), "--sites x: not enrolled; enrolled are site-1, site-2"),
        (("--sites", "site-1"), "sites.count = 2, but the run has 1 sites"),
        (("--sites", "site-1,site-1"), "every site once"),
        (("--set", "data.classes=[]"), "name the classes"),
        (("--set", "rounds=-1"), "rounds = -1"),
    ],
)
def test_a_study_that_cannot_be_is_refused_and_leaves_nothing(
    call: Call, folder: CoordinatorFolder, tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    code, _, said = call("start", study_file(tmp_path), *arguments)
    assert code == 2
    assert reason in said
    assert folder.all_runs() == ()


def test_auto_is_decided_at_the_start(call: Call, folder: CoordinatorFolder, tmp_path: Path) -> None:
    _, said, _ = call("start", study_file(tmp_path, strategy="auto"))
    study = folder.run(said.strip()).study()
    assert (study.strategy, study.rounds) == ("one_shot", 0)


def test_watch_shows_sites_rounds_epsilon_and_loss(
    call: Call, folder: CoordinatorFolder, tmp_path: Path
) -> None:
    name = call("start", study_file(tmp_path))[1].strip()
    files = RunFiles(folder.run(name))
    files.stand("running", "round 2 of 3")
    files.heard({"site-1": SiteStanding("approved", 1, 2.34567, ""), "site-2": SiteStanding("waiting")})
    entry = '{"round": 1, "phase": "train", "sites": ["site-1"], "generator_loss": 0.6931}\n'
    (files.run.path / "rounds.jsonl").write_text(entry)
    code, said, _ = call("watch", name, "--once")
    assert code == 0
    for words in ("running. round 2 of 3", "2.35", "round 1", "waiting", "G loss 0.693"):
        assert words in said


def test_only_what_is_paused_is_resumed_and_only_what_is_finished_released(
    call: Call, folder: CoordinatorFolder, tmp_path: Path
) -> None:
    name = call("start", study_file(tmp_path))[1].strip()
    assert "is proposing already" in call("resume", name)[2]
    assert "there is a release when it is finished" in call("release", name, tmp_path / "out")[2]
    RunFiles(folder.run(name)).stand("paused", "why")
    assert call("resume", name)[0] == 0
    assert RunFiles(folder.run(name)).standing.state == "proposing"
    assert "RUN nothing: no such run; there are: " in call("watch", "nothing", "--once")[2]


def test_a_folder_that_is_none_is_told_of(call: Call, tmp_path: Path) -> None:
    code, _, said = call("runs", "--dir", tmp_path)
    assert code == 2
    assert "is no coordinator's folder" in said


def test_help_loads_neither_torch_nor_flower() -> None:
    code = (
        "import sys; sys.argv = ['medgan-server', '--help']\n"
        "from server.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'torch', 'flwr', 'cryptography'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
