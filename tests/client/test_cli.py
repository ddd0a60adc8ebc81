"""`medgan-client` as a person types it: every command, its exit code, and one line for each mistake."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

import client.check
from client.cli import app
from client.folder import SiteFolder
from medgan_core.errors import MedGANError
from tests.client.sites import approve_all, configure, make_site, proposal, request, trainer

Ask = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path) -> SiteFolder:
    """A site that was asked once."""
    made = make_site(tmp_path / "site")
    with trainer(made) as desk:
        desk.handle(proposal(made))
    return made


@pytest.fixture
def ask(folder: SiteFolder, monkeypatch: pytest.MonkeyPatch) -> Ask:
    monkeypatch.setenv("MEDGAN_SITE", str(folder.path))
    monkeypatch.setattr(client.check, "steps_per_second", lambda *_, **__: 12.5)

    def call(*arguments: object, text: str = "") -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], input=text)

    return call


def digest(folder: SiteFolder) -> str:
    [path] = folder.studies.glob("*.json")
    return path.stem[:10]


def wrong(result: Result) -> str:
    """The message of a mistake; nothing else may go wrong."""
    assert isinstance(result.exception, MedGANError), result.output
    return str(result.exception)


def test_init_names_the_next_steps_and_the_fingerprint(tmp_path: Path, ask: Ask) -> None:
    done = ask("init", tmp_path / "north")
    assert done.exit_code == 0, done.output
    card = json.loads((tmp_path / "north" / "public-card.json").read_text())
    assert card["name"] == "north"
    assert card["fingerprint"] in done.output
    assert "is a site already" in wrong(ask("init", tmp_path / "north"))
    named = ask("init", tmp_path / "other", "--name", "south")
    assert "site south is made" in named.output


def test_check_prints_findings_and_fails_where_one_is_bad(ask: Ask, folder: SiteFolder) -> None:
    well = ask("check", "--offline")
    assert well.exit_code == 0
    assert well.output.splitlines()[-1] == "ready"
    folder.signing_key.chmod(0o644)
    bad = ask("check", "--offline")
    assert bad.exit_code != 0
    assert "→ chmod 600 signing.key" in bad.output
    assert "1 of" in wrong(bad)


def test_a_study_is_shown_before_it_is_approved(ask: Ask, folder: SiteFolder) -> None:
    assert "waits for you" in ask("status").output
    no = ask("approve", digest(folder), text="n\n")
    assert no.exit_code != 0
    for part in (
        "tiny (synthesis), run run-1",
        "costs      epsilon 9.99",
        "after      at least 40",
        "site-2  SHA256:",
    ):
        assert part in no.output
    assert "waits for you" in ask("status").output
    yes = ask("approve", digest(folder), text="y\n")
    assert yes.exit_code == 0, yes.output
    assert "patients to train on" in yes.output
    assert "active, approved by" in ask("status").output
    with trainer(folder) as desk:
        desk.handle(request(0))
        assert "trainer runs" in ask("status").output
    table = ask("ledger").output
    assert "run-1" in table
    assert "verified: " in table
    assert "one_shot" in ask("ledger", "--charges").output
    assert json.loads(ask("ledger", "--json").output)["site"] == "site-1"


def test_a_study_is_denied(ask: Ask, folder: SiteFolder) -> None:
    ask("approve", digest(folder), "--yes")
    assert "what was spent stays spent" in ask("deny", digest(folder)).output
    assert "denied by" in ask("status").output


def test_what_the_policy_forbids_no_person_approves_by_mistake(ask: Ask, folder: SiteFolder) -> None:
    configure(folder, policy__least_patients=500)
    refused = ask("approve", digest(folder), "--yes")
    assert wrong(refused).startswith("least_patients: ")
    assert "least_patients" in ask("status").output
    configure(folder, policy__least_patients=10, policy__largest_clip_norm=0.5)
    assert wrong(ask("approve", digest(folder), "--yes")).startswith("largest_clip_norm: ")


def test_status_names_the_rule_of_a_refused_proposal(ask: Ask, folder: SiteFolder) -> None:
    configure(folder, policy__most_rounds=1)
    assert "most_rounds" in "".join(ask("status").output.split())


@pytest.mark.parametrize("study", ["1234", "0" * 12])
def test_a_study_needs_enough_of_its_own_digest(ask: Ask, study: str) -> None:
    assert wrong(ask("approve", study, "--yes")).startswith(f"STUDY {study!r}" if len(study) < 8 else "STUDY")
    assert "STUDY" in wrong(ask("deny", study))


def test_the_log_is_verified_and_counts_what_left(ask: Ask, folder: SiteFolder) -> None:
    approve_all(folder)
    with trainer(folder) as desk:
        desk.handle(request(0))
    shown = ask("log").output
    assert "answered" in shown
    assert "bytes left this site" in shown
    assert len(ask("log", "--last", 2).output.splitlines()) == 3
    folder.log.write_bytes(folder.log.read_bytes().replace(b"one_shot", b"evaluate"))
    assert "the chain breaks at line" in wrong(ask("log"))


def test_consent_is_withdrawn_by_the_patients_key_or_from_stdin(ask: Ask, folder: SiteFolder) -> None:
    approve_all(folder)
    assert "in no round from now on" in ask("withdraw", "Anna-001").output
    assert "already" in ask("withdraw", "-", text="Anna-001\n").output
    assert "mind the spelling" in ask("withdraw", "Ana-001").output
    assert "blank" in wrong(ask("withdraw", "-", text="\n"))
    assert "Anna-001" not in folder.withdrawn.read_text() + folder.log.read_text()


def test_backup_restore_keys_and_the_end(ask: Ask, folder: SiteFolder, tmp_path: Path) -> None:
    assert ask("backup", tmp_path / "b.tar").exit_code == 0
    assert "restored: " in ask("restore", tmp_path / "b.tar").output
    assert "SHA256:" in ask("rotate-key").output
    assert ask("decommission", text="n\n").exit_code != 0
    assert "for the archive" in ask("decommission", "--yes").output
    assert "was decommissioned" in wrong(ask("status"))


def test_a_mistake_is_one_line_and_help_loads_no_torch(tmp_path: Path) -> None:
    repository = Path(__file__).parents[2]
    code = "from client.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "status", "--site", tmp_path],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: {tmp_path.name} is no site: it holds no site.toml; run medgan-client init first"
    ]
    code = "import sys, client.cli; assert not {'torch', 'opacus', 'flwr'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", code], cwd=repository, check=True)


def test_every_command_of_the_contract_is_there() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    expected = "init check status ledger approve deny log withdraw backup restore rotate-key decommission"
    assert set(expected.split()) <= set(commands)
    assert all(command.help for command in commands.values())
