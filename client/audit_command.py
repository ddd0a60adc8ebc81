"""`medgan-client audit` for the site's own person: is the privacy that is charged the one that is done?"""

import getpass
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.folder import SiteFolder

# torch and Opacus take seconds to import: what needs them is imported in its function.
if TYPE_CHECKING:
    from client.approvals import Approvals, Entry
    from client.diary import Diary
    from client.workshop import Workshop
    from medgan_core.privacy.audit.checks import Outcome
    from medgan_core.privacy.audit.run import AuditReport


def audit_command(
    site: Annotated[Path, typer.Option("--site", envvar="MEDGAN_SITE", help="The folder that init made.")],
    study: Annotated[
        str, typer.Argument(help="The study's digest, its first digits. Default: the latest approved.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="For a machine.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Where the audit passes, go on after noise stopped this site.")
    ] = False,
) -> None:
    """Audit a study's mechanism and this site's books: exits with 0 passed, 1 failed, 4 inconclusive.

    It trains on made-up patients alone, charges nothing, and nothing of it leaves.
    """
    from client.noise_log import lift
    from client.workshop import opened
    from medgan_core.errors import RefusedError
    from medgan_core.privacy.audit.run import EXIT_CODES

    folder = SiteFolder.open(site)
    with opened(folder) as (shop, diary):
        report = _audited(folder, shop, diary, study, as_json, resume)
        diary.add("audited", verdict=report.verdict, study=study)
        show(report, as_json)
        if resume:
            if report.verdict != "passed":
                raise RefusedError(f"--resume: the audit is {report.verdict}, so this site stays stopped")
            lift(folder, diary, getpass.getuser())
        elif folder.noise_alarm.exists():
            typer.echo(
                f"this site has stopped, see {folder.noise_alarm.name}; --resume lets it go on", err=True
            )
    raise typer.Exit(EXIT_CODES[report.verdict])


def _audited(
    folder: SiteFolder, shop: "Workshop", diary: "Diary", study: str, as_json: bool, resume: bool
) -> "AuditReport":
    from client.approvals import Approvals
    from client.audited import mechanism_of
    from client.hospital import held_out_by
    from client.noise_log import noise_outcome
    from medgan_core.config import parse_study
    from medgan_core.data.source import is_held_out
    from medgan_core.privacy.audit.run import audit

    asked = parse_study(_chosen(Approvals(folder.studies), study).proposal.study)
    published, pseudonym = shop.config.data.published, shop.ledger.pseudonym
    mechanism = mechanism_of(
        asked, held_out=is_held_out if published else lambda key: held_out_by(pseudonym, key)
    )
    more = list(accounts(shop))
    if not resume:  # else the rounds that stopped it would stop it for ever
        more += noise_outcome(since_resumed(diary))
    return audit(mechanism, more, (lambda line: None) if as_json else typer.echo)


def _chosen(approvals: "Approvals", study: str) -> "Entry":
    from medgan_core.errors import InputError

    if study:
        return approvals.find(study)
    approved = [e for e in approvals.all() if e.decision is not None and e.decision.answer == "approved"]
    if not approved:
        raise InputError("no study was approved here yet: name one of medgan-client status")
    return approved[-1]


def since_resumed(diary: "Diary") -> list[dict[str, object]]:
    """What the diary says of noise, since a person let the site go on the last time."""
    from client.noise_log import KIND

    lines: list[dict[str, object]] = []
    for note in diary.notes():
        if note.kind == "resumed":
            lines.clear()
        elif note.kind == KIND:
            lines.append(note.facts)
    return lines


def accounts(shop: "Workshop") -> "Sequence[Outcome]":
    """Each account's ε by several accountants."""
    from medgan_core.privacy.audit.books import exported_outcomes

    return exported_outcomes(shop.ledger.export())


def show(report: "AuditReport", as_json: bool) -> None:
    """A table for a person, or JSON."""
    import json

    from rich.console import Console
    from rich.table import Table

    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
        return
    table = Table("check", "verdict", "p", "what was seen")
    for outcome in report.outcomes:
        table.add_row(outcome.name, outcome.verdict, f"{outcome.p_value:.2g}", outcome.text)
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table)
    survived = [trial.mutant for trial in report.trials if not trial.killed_by]
    typer.echo(f"mutants killed: {len(report.trials) - len(survived)} of {len(report.trials)}")
    for name in survived:
        typer.echo(f"SURVIVED: {name}: this audit would not have noticed it")
    typer.echo(report.verdict)
