"""A release check from its beginning to the release written anew, with what was found on its card."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from medgan_core.errors import InputError, MedGANError, RefusedError
from medgan_core.record import make_folder, write_atomically
from medgan_core.release.bundle import Release, write_card
from medgan_core.release.card import ReleaseCard
from medgan_core.release.check.drawn import sample_figures
from medgan_core.release.check.judge import judge
from medgan_core.release.check.policy import Policy
from medgan_core.release.check.report import render
from medgan_core.release.check.result import CheckResult
from medgan_core.release.files import created, write_manifest
from medgan_core.release.signature import sign_manifest
from medgan_core.release.swap import swapped_in
from medgan_core.release.verify import verify_release
from medgan_core.seeds import Seeds

_KEPT = ("generator.safetensors", "generator.json", "receipts.json", "study.toml")
_ACCEPTED = re.compile(r"[^:\n]{1,100}: \S[^\n]{0,500}")
Say = Callable[[str], object]


def check_release(
    folder: Path, policy: Policy, signing_key: bytes, accepted: str = "", say: Say = lambda _: None
) -> CheckResult:
    """Verify a release, judge it by a policy, and write it anew with the result, signed.

    `accepted` is "NAME: reason" of a person who answers for a release that is inconclusive; it is kept where
    the verdict is that. What an earlier check by the same policy found is not tried again.

    Raises ReleaseError for a release that fails `verify`, InputError for an acceptance without a reason.
    """
    if accepted and not _ACCEPTED.fullmatch(accepted):
        raise InputError(f'--accept-inconclusive {accepted!r}: expected "NAME: reason" in one line')
    verify_release(folder)
    release = Release.open(folder)
    known = release.card.check
    if known is None or known.policy != policy:
        known = None
    say("drawing images")
    samples = known.samples if known else sample_figures(release, policy)
    twin = dict(known.twin) if known else _twin(release, say)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    found = judge(release.card, release.receipts, policy, samples, twin, checked=now)
    if found.verdict == "inconclusive":
        accepted = accepted or (known.accepted if known else "")
        found = found.model_copy(update={"accepted": accepted})
    if known is None or known.accepted != found.accepted:
        write_checked(release, found, signing_key)
        return found
    return known


def demand(found: CheckResult) -> None:
    """Let a release go out, or raise: MedGANError where it failed, RefusedError where nobody can tell."""
    names = ", ".join(row.name for row in found.rows if row.verdict == found.verdict)
    if found.verdict == "fail":
        raise MedGANError(f"the release check failed: {names}; nothing was released")
    if not found.may_leave:
        raise RefusedError(
            f"the release check is inconclusive: {names}; nothing was released. Whoever answers for it gives "
            '--accept-inconclusive "NAME: reason", which the card then tells'
        )


def write_checked(release: Release, found: CheckResult, signing_key: bytes) -> Release:
    """Write a release anew with the result of its check; it is either the old one or the new one."""
    card = release.card.model_copy(update={"check": found})
    made = created(release.folder).isoformat(timespec="seconds")
    try:
        with swapped_in(release.folder) as part:
            for name in _KEPT:
                write_atomically(part / name, (release.folder / name).read_bytes())
            write_card(part, card, release.facts)
            write_told(part, release, card)
            write_manifest(part, made)
            sign_manifest(part, signing_key)
    except OSError as error:
        name = release.folder.name
        raise MedGANError(f"{name} could not be saved: {error.strerror}; mend it and check again") from error
    return Release.open(release.folder)


def write_told(folder: Path, release: Release, card: ReleaseCard) -> None:
    """Write the report and, as DICOM, a few images of a generator that draws them."""
    from medgan_core.release.check.dicom import sample_files
    from medgan_core.release.check.pdf import render_pdf
    from medgan_core.release.check.pictures import pictures_of

    pictures = pictures_of(release, card)
    write_atomically(folder / "report.html", render(card, pictures).encode())
    write_atomically(folder / "report.pdf", render_pdf(card, pictures))
    for name, body in sample_files(release).items():
        make_folder(folder / "samples")
        write_atomically(folder / name, body)


def _twin(release: Release, say: Say) -> dict[str, float]:
    """AUC by attack on a generator that was overfitted on purpose; none where nothing was attacked."""
    told = release.card.metrics.get("attacks")
    if told is None:
        return {}
    from medgan_core.evaluate.attacks.twin import twin_aucs

    say("overfitting a twin, to see whether the attacks would find it")
    names = tuple(map(str, told["names"]))
    study, seeds = release.study, Seeds(release.study.seed).child("twin")
    shared = study.training_rounds > 0 and study.share != "generator"
    return twin_aucs(release.facts.make_task(), release.generator(), names, seeds, discriminators=shared)
