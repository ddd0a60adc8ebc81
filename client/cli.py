"""`medgan-client`: a hospital's part in federated studies."""

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.audit_command import audit_command
from client.daemon import run_command
from client.folder import SiteFolder, running
from client.pull_command import pull_command
from client.quarantine_command import quarantine_command
from medgan_core.errors import InputError, MedGANError
from medgan_core.terminal import run as run_app

# torch and Opacus take seconds to import: what needs them is imported in its command.
if TYPE_CHECKING:
    from rich.table import Table

    from client.check import Finding

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
Site = Annotated[Path, typer.Option("--site", envvar="MEDGAN_SITE", help="The folder that init made.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask again.")]
Study = Annotated[str, typer.Argument(help="The study's digest, its first 8 digits or more (see status).")]
HERE = Path()


@app.command()
def init(
    site_dir: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder for this site.")],
    name: Annotated[str, typer.Option(help="The site's name. Default: that of the folder.")] = "",
) -> None:
    """Make a site: site.toml to be filled in, keys, an empty ledger, and the card for the coordinator."""
    from client.founding import found_site

    folder = SiteFolder(site_dir)
    card = found_site(folder, name or site_dir.resolve().name)
    typer.echo(f"site {card.name} is made. Next:")
    typer.echo(f"1. fill in {folder.site_file}: where the images are, and what studies may do")
    typer.echo(f"2. send {folder.public_card} to the coordinator, and compare by phone:")
    typer.echo(f"   {card.fingerprint()}")
    typer.echo(f"3. medgan-client check --site {site_dir}")


@app.command()
def check(
    site: Site = HERE,
    offline: Annotated[
        bool, typer.Option("--offline", help="Without asking the coordinator or an archive.")
    ] = False,
) -> None:
    """Look at everything that could go wrong; exits with 1 where something is bad, and names the fix."""
    from client.check import preflight

    findings = preflight(SiteFolder.open(site), offline=offline)
    for finding in findings:
        _show_finding(finding)
    bad = sum(finding.state == "bad" for finding in findings)
    if bad:
        raise MedGANError(f"{bad} of {len(findings)} findings are bad; mend them as it says there")
    typer.echo("ready")


app.command("run")(run_command)
app.command("pull")(pull_command)
app.command("quarantine")(quarantine_command)
app.command("audit")(audit_command)


@app.command()
def status(site: Site = HERE) -> None:
    """Studies with their state and digest, what is spent and left, and whether the trainer runs."""
    from client.approvals import Approvals
    from client.books import open_ledger
    from client.keys import verify_key
    from client.showing import studies_table
    from client.version import trainer_version

    folder = SiteFolder.open(site)
    config, approvals = folder.config(), Approvals(folder.studies)
    typer.echo(f"site {config.name}, trainer {'runs' if running(folder) else 'does not run'}")
    typer.echo(f"version {trainer_version()}")
    with open_ledger(folder, config) as ledger:
        for account in ledger.accounts():
            typer.echo(
                f"account {account[:8]}: epsilon {ledger.spent(account):.4g} spent, "
                f"{ledger.remaining(account):.4g} left of {ledger.policy.epsilon_cap:g}"
            )
    entries = approvals.all()
    if entries:
        most = config.schedule.studies_at_once
        active = approvals.active(trainer_version(), most)
        _print(studies_table(entries, config, verify_key(folder), active))
    else:
        typer.echo("no study was proposed yet")


@app.command()
def ledger(
    site: Site = HERE,
    charges: Annotated[bool, typer.Option("--charges", help="Every single charge.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The export for an auditor.")] = False,
) -> None:
    """Who spent what, when, for which run; the whole chain is verified first."""
    import json

    from client.approvals import Approvals
    from client.books import open_ledger
    from client.diary import Diary
    from client.showing import charges_table, ledger_table

    folder = SiteFolder.open(site)
    with open_ledger(folder, folder.config(), Diary(folder.log)) as book:
        lines, head = book.entries(), book.witness()
        if as_json:
            typer.echo(json.dumps(book.export(), indent=2))
            return
        studies = {entry.proposal.run: entry for entry in Approvals(folder.studies).all()}
        _print(charges_table(lines) if charges else ledger_table(lines, studies, book.policy.delta))
        for account in book.accounts():
            typer.echo(
                f"account {account[:8]}: epsilon {book.spent(account):.4g} spent, "
                f"{book.committed(account):.4g} with holds, {book.remaining(account):.4g} left"
            )
        typer.echo(f"verified: {head.sequence} entries of ledger {head.ledger}, head {head.head}")


@app.command()
def approve(study: Study, site: Site = HERE, yes: Yes = False) -> None:
    """Show a study, what it costs and what would be left; then say yes to it and reserve its cost."""
    from client.approvals import Approvals
    from client.books import keep_heads
    from client.deciding import approve as decide
    from client.judging import judge
    from client.keys import verify_key
    from client.showing import cost_lines, study_lines
    from client.workshop import opened

    folder = SiteFolder.open(site)
    with opened(folder) as (shop, diary):
        approvals = Approvals(folder.studies)
        entry = approvals.find(study)
        judged = judge(shop.config, entry.proposal, verify_key(folder))
        for line in (*study_lines(entry, judged), *cost_lines(shop.config, shop.ledger, judged)):
            typer.echo(line)
        _confirm(yes, "approve this study for this site's patients?")
        prepared = decide(shop, approvals, diary, entry, judged, getpass.getuser())
        keep_heads(folder, shop.ledger, diary)
        facts, worker = prepared.facts, prepared.worker
        left = min(shop.ledger.remaining(account) for account in worker.accounts.values())
        typer.echo(
            f"approved: {facts.patients} patients to train on, {facts.held_out} to judge by; "
            f"epsilon {left:.4g} left for other studies"
        )


@app.command()
def deny(study: Study, site: Site = HERE) -> None:
    """Say no to a study; one that runs is left at once, and what it held is free again."""
    from client.approvals import Approvals
    from client.books import keep_heads
    from client.deciding import deny as decide
    from client.workshop import opened

    folder = SiteFolder.open(site)
    with opened(folder) as (shop, diary):
        approvals = Approvals(folder.studies)
        entry = approvals.find(study)
        decide(shop, approvals, diary, entry, getpass.getuser())
        keep_heads(folder, shop.ledger, diary)
    typer.echo(f"denied: run {entry.proposal.run}; what was spent stays spent")


@app.command()
def log(
    site: Site = HERE,
    last: Annotated[int, typer.Option(min=0, help="Only so many lines; 0 for all.")] = 0,
) -> None:
    """The site's own log of every request, decision and byte count that left; its chain is verified."""
    from client.books import open_ledger
    from client.diary import Diary
    from client.showing import note_line

    folder = SiteFolder.open(site)
    diary = Diary(folder.log)
    open_ledger(folder, folder.config(), diary).disconnect()
    notes = diary.notes()
    for note in notes[-last:]:
        typer.echo(note_line(note))
    left = sum(int(note.facts.get("bytes", 0)) for note in notes if note.kind != "mended")
    typer.echo(f"verified: {len(notes)} lines; {left} bytes left this site")


@app.command()
def withdraw(
    patient: Annotated[
        str,
        typer.Argument(
            help="The patient's key as in the data; of DICOM PatientID or PatientID^^^ISSUER; - is stdin."
        ),
    ],
    site: Site = HERE,
) -> None:
    """Consent withdrawn: leave a patient out of every future round. What was spent stays on the account."""
    from client.consent import withdraw as leave_out
    from client.workshop import opened

    folder = SiteFolder.open(site)
    key = sys.stdin.readline().strip() if patient == "-" else patient
    if not key:
        raise InputError("PATIENT is blank: expected the patient's key as in the data")
    with opened(folder) as (shop, diary):
        known, changed = shop.ledger.knows(key), leave_out(folder, shop.ledger, diary, key)
    if not known:
        typer.echo(
            "no study has used this patient yet: mind the spelling, which is that of the data", err=True
        )
    typer.echo("withdrawn: in no round from now on" if changed else "was withdrawn already")


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="A new file; it holds the ledger's key, so keep it safe.")],
    site: Site = HERE,
) -> None:
    """Copy the ledger with its key and the withdrawals into one file that only you may read."""
    from client.backups import back_up

    witness = back_up(SiteFolder.open(site), target)
    typer.echo(f"backup of {witness.sequence} entries, head {witness.head}: {target}")


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(help="A file that backup made.")],
    site: Site = HERE,
    witness: Annotated[
        Path | None, typer.Option(help="A head of this ledger that the coordinator knows, as JSON.")
    ] = None,
) -> None:
    """Bring back a ledger; one that is behind a known head is refused, since it would forget spending."""
    from client.backups import read_witness
    from client.backups import restore as bring_back

    folder = SiteFolder.open(site)
    head = bring_back(folder, source, read_witness(witness) if witness else None)
    typer.echo(f"restored: {head.sequence} entries, head {head.head}; the coordinator compares it too")


@app.command("rotate-key")
def rotate_key(
    site: Site = HERE,
    even_with_runs: Annotated[
        bool, typer.Option("--even-with-runs", help="Also while runs are open that know the old keys.")
    ] = False,
) -> None:
    """Make new keys in place of the old ones; the coordinator has to enrol the new card."""
    from client.founding import rotate

    folder = SiteFolder.open(site)
    card = rotate(folder, even_with_runs=even_with_runs)
    typer.echo(f"new keys of {card.name}: send {folder.public_card} to the coordinator, compare by phone:")
    typer.echo(f"   {card.fingerprint()}")
    typer.echo("until they are enrolled this site is not let in; restart the daemon")


@app.command()
def decommission(site: Site = HERE, yes: Yes = False) -> None:
    """End this site: free all holds, export the ledger, destroy the private keys, refuse further work."""
    from client.founding import decommission as end

    folder = SiteFolder.open(site)
    _confirm(yes, f"end site {folder.config().name} for good?")
    end(folder)
    typer.echo(f"decommissioned: {folder.path / 'ledger-archive.json'} is for the archive")
    typer.echo("the ledger and its key stay: what was spent on these patients has to be known elsewhere too")


def _show_finding(finding: "Finding") -> None:
    typer.echo(f"{finding.state:<8} {finding.name:<12} {finding.text}")
    if finding.fix:
        typer.echo(f"{'':<8} {'':<12} → {finding.fix}")


def _confirm(yes: bool, question: str) -> None:
    if not yes and not typer.confirm(question):
        raise typer.Abort


def _print(table: "Table") -> None:
    from rich.console import Console

    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table)  # a pipe has no width of its own


def main() -> None:
    """The command with the process's arguments."""
    run_app(app)
