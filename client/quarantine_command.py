"""`medgan-client quarantine` for the site's own person: what was refused, and where it is."""

from pathlib import Path
from typing import Annotated

import typer

from client.folder import SiteFolder


def quarantine_command(
    site: Annotated[Path, typer.Option("--site", envvar="MEDGAN_SITE", help="The folder that init made.")],
    hashed: Annotated[
        str,
        typer.Option("--where", metavar="HASH", help="Show the file of this entry, on this screen."),
    ] = "",
) -> None:
    """List the DICOM files that the last reading refused, by keyed hashes, or show which file one is.

    A file's path may name a patient: it goes to the screen, and into no log and no file.
    """
    from client.quarantine import quarantine, where

    folder = SiteFolder.open(site)
    if hashed:
        path, member = where(folder, hashed)
        typer.echo(f"{path}: {member}" if member else str(path))
        return
    found = quarantine(folder)
    for entry in found:
        typer.echo(f"{entry.key}  {entry.reason:<16} {entry.why}")
    typer.echo(f"{len(found)} files are in the quarantine; --where HASH shows which one it is")
