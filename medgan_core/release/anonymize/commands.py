"""`medgan anonymize` and `medgan leak-check`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgan_core.errors import InputError

# torch and pydicom take seconds to import: what needs them is imported where it is used.
if TYPE_CHECKING:
    from medgan_core.release.anonymize.identifiers import PseudonymKey
    from medgan_core.release.bundle import Release
    from medgan_core.release.leaks.check import Leaks

_SHOWN = 20
FOUND = 1


class Structure(StrEnum):
    """Whose patients and studies a synthetic cohort has."""

    COUNTS = "counts"
    MIRROR = "mirror"


class Pixels(StrEnum):
    """Where the pixels come from."""

    REPLACE = "replace"
    KEEP = "keep"


def anonymize(
    source: Annotated[Path | None, typer.Argument(metavar="IN", help="The folder of real studies.")] = None,
    out: Annotated[Path | None, typer.Argument(metavar="OUT", help="The folder to be written.")] = None,
    release: Annotated[
        Path | None, typer.Option(metavar="RELEASE", help="The release whose generator makes the pixels.")
    ] = None,
    key: Annotated[Path | None, typer.Option(metavar="KEYFILE", help="The key of the pseudonyms.")] = None,
    new_key: Annotated[
        Path | None, typer.Option(metavar="KEYFILE", help="Make a key, with mode 0600, and stop.")
    ] = None,
    structure: Annotated[
        Structure, typer.Option(help="Draw it from the release, or mirror IN: NOT DP, internal use.")
    ] = Structure.COUNTS,
    pixels: Annotated[
        Pixels, typer.Option(help="Replace them, or keep them and de-identify headers: internal use.")
    ] = Pixels.REPLACE,
    patients: Annotated[int | None, typer.Option(min=1, help="counts: how many patients are drawn.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the rules for headers, and stop.")
    ] = False,
) -> None:
    """Make a synthetic cohort in the place of a real one, or de-identify the headers of a real one."""
    if explain:
        return _explain()
    if new_key is not None:
        return _new_key(new_key)
    if source is None or out is None:
        raise InputError("expected IN and OUT: medgan anonymize IN OUT --release RELEASE --key KEYFILE")
    if pixels is Pixels.KEEP:
        return _keep(source, out, key, release, structure, patients)
    return _replace(source, out, release, key, structure, patients)


def leak_check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to be searched.")],
    against: Annotated[Path, typer.Option(metavar="IN", help="The folder of real files.")],
    pixels: Annotated[
        Pixels, typer.Option(help="keep: the pixels are known to be the real ones and are not compared.")
    ] = Pixels.REPLACE,
) -> None:
    """Search a folder for every identifying value of a real one, and for its pixels."""
    from medgan_core.release.leaks.check import leak_check as check

    leaks = check(folder, against, pixels is Pixels.KEEP)
    for line in _table(leaks):
        typer.echo(line)
    if not leaks.clean:
        raise typer.Exit(FOUND)


def _explain() -> None:
    from medgan_core.release.anonymize.rules import explain

    for rule in explain():
        typer.echo(f"{rule.attributes}: {rule.done} ({rule.source})")


def _new_key(path: Path) -> None:
    from medgan_core.release.anonymize.identifiers import new_key

    new_key(path)
    typer.echo(f"{path.name}: a new key, readable by you alone; who has it can tell whose a pseudonym is")


def _keep(
    source: Path,
    out: Path,
    key: Path | None,
    release: Path | None,
    structure: Structure,
    patients: int | None,
) -> None:
    if release is not None or patients is not None or structure is Structure.MIRROR:
        raise InputError("--pixels keep takes no --release, --structure or --patients: it makes nothing new")
    from medgan_core.release.anonymize.cohort import NOTICE, keep_pixels

    outcome = keep_pixels(source, out, _key(key))
    for line in (*NOTICE, *outcome.lines()):
        typer.echo(line)


def _replace(
    source: Path,
    out: Path,
    release: Path | None,
    key: Path | None,
    structure: Structure,
    patients: int | None,
) -> None:
    from medgan_core.release.anonymize.replacement import draw_cohort, mirror_cohort

    opened = _release(release)
    left_out: tuple[str, ...] = ()
    if structure is Structure.MIRROR:
        if patients is not None:
            raise InputError("--patients goes with --structure counts: a mirror has the patients of IN")
        made, mirror = mirror_cohort(source, out, opened, _key(key))
        left_out = tuple(f"{count} left out: {reason}" for reason, count in mirror.left_out.most_common())
    else:
        made = draw_cohort(source, out, opened, None if key is None else _key(key), patients)
    for line in (*made.notice, f"{made.images} images of {made.patients} patients written", *left_out):
        typer.echo(line)
    for line in made.warnings:
        typer.echo(line, err=True)


def _key(path: Path | None) -> "PseudonymKey":
    from medgan_core.release.anonymize.identifiers import load_key

    if path is None:
        raise InputError("expected --key KEYFILE; make one with medgan anonymize --new-key KEYFILE")
    return load_key(path)


def _release(path: Path | None) -> "Release":
    from medgan_core.release.bundle import Release

    if path is None:
        raise InputError("expected --release RELEASE, whose generator makes the pixels (or --pixels keep)")
    return Release.open(path)


def _table(leaks: "Leaks") -> list[str]:
    """The outcome of a search, a line each; no value in full."""
    kinds = sorted(set(leaks.searched) | set(leaks.common))
    lines = [f"{'of IN':28}{'searched':>10}{'too common':>12}{'found':>8}"]
    lines += [
        f"{kind:28}{leaks.searched[kind]:>10}{leaks.common[kind]:>12}{leaks.found[kind]:>8}" for kind in kinds
    ]
    if leaks.copies is None:
        lines.append("frames: kept on purpose, not compared")
    else:
        lines.append(
            f"{leaks.frames} frames against {leaks.real_frames}: {leaks.copies} the same, "
            f"{leaks.alike} nearly the same"
        )
    lines += [f"LEAK {place}" for place in leaks.places[:_SHOWN]]
    if len(leaks.places) > _SHOWN:
        lines.append(f"LEAK and {len(leaks.places) - _SHOWN} more values")
    lines += [f"{count} not searched in full: {reason}" for reason, count in leaks.unread.items()]
    good, bad = (
        "nothing found; this is no proof of anonymity",
        "LEAKS, or not all searched: do not pass it on",
    )
    verdict = good if leaks.clean else bad
    return [*lines, f"{leaks.files} files searched: {verdict}"]
