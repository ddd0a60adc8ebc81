"""What `medgan-server release-check` and `medgan-sim release-check` share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medgan_core.release.check.policy import Policy

PolicyFile = Annotated[
    Path | None, typer.Option("--policy", metavar="FILE", help="A policy in TOML; see --show-policy.")
]
ShowPolicy = Annotated[
    bool, typer.Option("--show-policy", help="Print the policy with its comments, and end.")
]
Accept = Annotated[
    str,
    typer.Option(
        "--accept-inconclusive",
        metavar='"NAME: REASON"',
        help="Who answers for a release of which the check cannot tell, and why; the card tells it.",
    ),
]


def asked_policy(path: Path | None, show: bool = False) -> "Policy":
    """The policy of a file, else the defaults; printed, and the command ended, where `show`."""
    from medgan_core.release.check.policy import Policy, policy_text, read_policy

    policy = Policy() if path is None else read_policy(path)
    if show:
        typer.echo(policy_text(policy), nl=False)
        raise typer.Exit
    return policy


def check_and_show(folder: Path, policy: "Policy", signing_key: bytes) -> None:
    """Check a release, show what was found, and exit with its code."""
    from rich.console import Console

    from medgan_core.release.check.result import EXIT_CODES
    from medgan_core.release.check.run import check_release
    from medgan_core.release.check.shown import show

    found = check_release(folder, policy, signing_key, say=lambda line: typer.echo(line, err=True))
    show(found, Console())
    typer.echo(f"report: {folder / 'report.html'}")
    raise typer.Exit(EXIT_CODES[found.verdict])
