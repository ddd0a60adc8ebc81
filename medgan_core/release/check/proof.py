"""A verdict on a card is shown to be that of the card's own figures, and of images that are drawn anew."""

from math import isclose, isnan

from medgan_core.errors import InputError, ReleaseError
from medgan_core.release.bundle import Release
from medgan_core.release.check.drawn import sample_figures
from medgan_core.release.check.judge import judge
from medgan_core.release.check.result import CheckResult, SampleFigures

_ROUNDING = 2e-2
"""How far figures of drawn images may be apart on two machines, of each other."""


def prove(release: Release, *, same_version: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Lines on the release check, and warnings. ReleaseError where its verdict is not what follows.

    Another version may have other rows; then the verdict alone is compared.
    """
    said = release.card.check
    if said is None:
        return ("card.json: not checked: no release check was made",), ()
    _check_samples(said.samples, sample_figures(release, said.policy))
    found = _judged(release, said)
    if said.verdict != found.verdict:
        raise ReleaseError(f"card.json: its check says {said.verdict}, its own figures give {found.verdict}")
    if said.accepted and said.verdict != "inconclusive":
        raise ReleaseError(f"card.json: its check is accepted by somebody, though it says {said.verdict}")
    if same_version:
        _check_rows(said, found)
    line = f"card.json: the release check says {said.verdict}, which follows from its figures and policy"
    accepted = f"; accepted by {said.accepted}" if said.accepted else ""
    return (line + accepted,), _warnings(said)


def _judged(release: Release, said: CheckResult) -> CheckResult:
    try:
        return judge(
            release.card,
            release.receipts,
            said.policy,
            said.samples,
            said.twin,
            checked=said.checked,
            accepted=said.accepted,
        )
    except InputError as error:
        raise ReleaseError(f"card.json: the policy of its check cannot be: {error}") from error


def _warnings(said: CheckResult) -> tuple[str, ...]:
    if said.verdict == "fail":
        return ("card.json: the release check failed: it was not to go out; do not use it",)
    if not said.may_leave:
        return ("card.json: the release check is inconclusive, and nobody answers for it",)
    return ()


def _check_rows(said: CheckResult, found: CheckResult) -> None:
    if wrong := _differing(said.to_json(), found.to_json()):
        raise ReleaseError(f"card.json: {wrong} of its check are not what its figures give")


def _differing(said: dict[str, object], found: dict[str, object]) -> str:
    return ", ".join(name for name in said if said[name] != found[name])


def _check_samples(said: SampleFigures | None, found: SampleFigures | None) -> None:
    if said is None or found is None:
        if said is not found:
            raise ReleaseError("card.json: its check does not tell what drawn images show, or tells too much")
        return
    for name, expected in found.model_dump().items():
        told = getattr(said, name)
        pairs = zip(_many(told), _many(expected), strict=False)
        if len(_many(told)) != len(_many(expected)) or not all(_near(a, b) for a, b in pairs):
            raise ReleaseError(
                f"card.json: {name} of drawn images is {told}, drawn anew it is {expected}: the weights or "
                "the card were changed"
            )


def _many(value: object) -> tuple[float, ...]:
    return tuple(map(float, value)) if isinstance(value, list | tuple) else (float(value),)  # type: ignore[arg-type]


def _near(a: float, b: float) -> bool:
    return (isnan(a) and isnan(b)) or isclose(a, b, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
