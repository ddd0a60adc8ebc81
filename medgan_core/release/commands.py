"""`medgan verify`, `recall`, `diff` and `export`: what is done with a release as a whole."""

import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgan_core.errors import InputError

# torch takes seconds to import: what needs it is imported in its command.
if TYPE_CHECKING:
    from medgan_core.release.bundle import Release
    from medgan_core.release.verify import Verification

ReleaseFolder = Annotated[Path, typer.Argument(metavar="RELEASE", help="The folder of a release.")]


class Target(StrEnum):
    """Programs that a generator is exported for."""

    ONNX = "onnx"
    MONAI = "monai"


def verify(
    release: ReleaseFolder,
    trust: Annotated[
        Path | None,
        typer.Option(
            metavar="KEYS", help="Public keys of sites and coordinator: a file, or a folder of them."
        ),
    ] = None,
    recalls: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The coordinator's list of recalled releases.")
    ] = None,
    at: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Whether it may be used then (UTC), not now."
        ),
    ] = None,
) -> None:
    """Check hashes, signatures, receipts, epsilon, expiry and recall of a release, offline."""
    from medgan_core.release.recalls import RecallList
    from medgan_core.release.trust import Trust
    from medgan_core.release.verify import verify_release

    verification = verify_release(
        release,
        None if trust is None else Trust.read(trust),
        None if recalls is None else RecallList.read(recalls),
        None if at is None else at.replace(tzinfo=UTC),
    )
    for line in verification.lines:
        typer.echo(f"ok  {line}")
    for line in verification.warnings:
        typer.echo(f"warning: {line}", err=True)
    typer.echo(_verdict(verification))


def recall(
    release: ReleaseFolder,
    reason: Annotated[str, typer.Option(help="Why, for those who hold the release.")],
    key: Annotated[Path, typer.Option(metavar="FILE", help="The coordinator's private key: release.key.")],
    recalls: Annotated[
        Path, typer.Option(metavar="FILE", help="The list to which it is added; made where there is none.")
    ] = Path("recalls.json"),
) -> None:
    """Call a release back: add it to the coordinator's signed list, which you then publish."""
    from medgan_core.release.card import ReleaseCard
    from medgan_core.release.files import parse, read_files
    from medgan_core.release.recalls import recall as recalled
    from medgan_core.release.signature import read_signing_key

    card = parse(ReleaseCard, "card.json", read_files(release))
    listed = recalled(card, reason, read_signing_key(key), recalls)
    typer.echo(f"recalled: {card.run}; {recalls} lists {len(listed.entries)}, publish it")


def diff(
    release: Annotated[Path, typer.Argument(metavar="RELEASE_A", help="The folder of a release.")],
    other: Annotated[Path, typer.Argument(metavar="RELEASE_B", help="The folder of another one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what differs between two releases: study, data, privacy, epsilon by site, figures, weights."""
    from medgan_core.release.bundle import Release
    from medgan_core.release.diff import differences, table, to_json

    found = differences(Release.open(release), Release.open(other))
    if as_json:
        typer.echo(json.dumps(to_json(found), indent=2, ensure_ascii=False))
        return
    if not found:
        typer.echo("no difference")
        return
    from rich.console import Console

    Console().print(table(found, release.name, other.name))


def export(
    release: ReleaseFolder,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="ONNX: a file. MONAI: a new folder.")],
    to: Annotated[Target, typer.Option("--to", help="onnx, or monai: a bundle that runs without MedGAN.")],
) -> None:
    """Write the generator for other programs."""
    from medgan_core.release.bundle import Release
    from medgan_core.release.to_monai import write_bundle
    from medgan_core.release.to_onnx import write_onnx

    opened = Release.open(release)
    warn(opened)
    try:
        {Target.ONNX: write_onnx, Target.MONAI: write_bundle}[to](opened, out)
    except OSError as error:
        raise InputError(f"OUT {out.name}: {error.strerror}; choose another place") from error
    typer.echo(f"{opened.card.study} for {to}: {out}")


def warn(release: "Release") -> None:
    """Say on stderr what whoever uses a release must not overlook."""
    card = release.card
    if not card.private:
        typer.echo("NOT PRIVATE: this generator was trained without differential privacy", err=True)
    if card.expires and datetime.fromisoformat(card.expires) <= datetime.now(UTC):
        typer.echo(f"EXPIRED: this release was to be used until {card.expires}", err=True)


def _verdict(verification: "Verification") -> str:
    """The last line: what is promised, and who says so."""
    if verification.privacy == "dp":
        promise = f"epsilon {verification.epsilon:.4g} at delta {verification.delta:g}"
        if verification.local_epsilon is not None:
            promise += f"; {verification.local_epsilon:.4g} without trust in the secure sum"
    else:
        promise = "NOT PRIVATE, epsilon is infinite"
    if verification.signers:
        return f"verified: {promise}; signed by {verification.signers}, whom you trust"
    return f"integrity only: {promise}; who made it is not shown: give their public keys with --trust"
