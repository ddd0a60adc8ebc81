"""Check a release offline, from its own files: hashes, receipts against the study, ε, weights.

Every check that passes is one line; the first that fails raises ReleaseError, whose message begins with the
name of the file. A manifest that was made anew over changed files passes the hashes and fails here.
"""

import math
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from medgan_core.errors import ConfigError, ReleaseError
from medgan_core.messages import AccountName
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.privacy.sum_keys import signed_by
from medgan_core.record import environment
from medgan_core.release.bundle import Release
from medgan_core.release.card_text import markdown
from medgan_core.release.files import FILES, read_files
from medgan_core.release.spending import release_epsilon, release_local_epsilon, spending

# A search for noise on another machine may end one bisection step beside this one, which is a part in 1000.
_SEARCH = 2e-3
# PRV's ε is exact to 0.01: a longer history may come out that much below a part of it.
_PRV_ERROR = 0.02
_SAME = 1e-9


@dataclass(frozen=True)
class Verification:
    """What was checked, a line each; `privacy` is "dp" or "NOT PRIVATE", ε infinite for the latter.

    `local_epsilon` is ε without trust in secure sums, None where there were none.
    """

    lines: tuple[str, ...]
    privacy: str
    epsilon: float
    delta: float
    local_epsilon: float | None = None


def verify_release(folder: Path | str) -> Verification:
    """Check a whole release. Raises ReleaseError naming the file that fails, InputError where it is none."""
    release = Release.open(folder)
    sites = len({receipt.site for receipt in release.receipts})
    _check_study(release)
    _check_epsilon(release)
    _check_accounts(release)
    gate = _gate(release)
    _check_generator(release)
    lines = (
        f"manifest.json: SHA-256 of {len(FILES)} files agree",
        "study.toml: its privacy plan is the card's",
        f"receipts.json: {len(release.receipts)} receipts of {sites} sites cover every round of the plan",
        f"receipts.json: {_signatures(release)}",
        f"card.json: epsilon of {sites} sites recomputed from the receipts' events",
        *_trust(release),
        *gate,
        f"card.md: {_check_words(release, read_files(release.folder)['card.md'])}",
        "generator.safetensors: names, shapes and values fit generator.json",
    )
    card = release.card
    return Verification(lines, card.privacy, card.epsilon, card.delta, card.local_epsilon)


def _check_study(release: Release) -> None:
    """The card tells of the study that lies beside it."""
    card, study = release.card, release.study
    try:
        planned = PrivacyPlan.of(study, card.unit)
    except ConfigError as error:
        raise ReleaseError(f"study.toml: {error}") from error
    told = asdict(card.plan)
    for name, value in asdict(planned).items():
        if not _agree(told[name], value, _SEARCH if "noise" in name else 0.0):
            raise ReleaseError(f"card.json: {name} of the plan is {told[name]}, by study.toml it is {value}")
    facts = {
        "study": (card.study, study.name),
        "task": (card.task, study.task),
        "neighbours": (card.neighbours, planned.neighbours),
        "delta": (card.delta, planned.delta),
        "run": (card.run, release.receipts[0].run),
    }
    for name, (said, found) in facts.items():
        if said != found:
            raise ReleaseError(f"card.json: {name} is {said!r}, expected {found!r}")


def _check_epsilon(release: Release) -> None:
    """What the card says was spent is what the receipts' events cost."""
    card, receipts = release.card, release.receipts
    infinite = any(receipt.event.infinite for receipt in receipts)
    if card.private and infinite:
        raise ReleaseError("card.json: privacy is 'dp', but the receipts hold an event without noise")
    if not card.private and not infinite:
        raise ReleaseError("card.json: privacy is 'NOT PRIVATE', but every event has noise")
    found = spending(receipts, card.plan)
    if [site.site for site in found] != [site.site for site in card.sites]:
        raise ReleaseError("card.json: its sites are not those of receipts.json")
    for said, site in zip(card.sites, found, strict=True):
        for name, value in site.model_dump().items():
            if not _agree(getattr(said, name), value, _SAME):
                raise ReleaseError(
                    f"card.json: {name} of {site.site} is {getattr(said, name)}, by the receipts {value}"
                )
    figures = {
        "epsilon": (card.epsilon, release_epsilon(receipts, card.plan)),
        "local_epsilon": (card.local_epsilon, release_local_epsilon(receipts, card.plan)),
    }
    for name, (told, total) in figures.items():
        if not _agree(told, total, _SAME):
            raise ReleaseError(f"card.json: {name} is {told}, by the receipts {total}")


def _trust(release: Release) -> tuple[str, ...]:
    """What the card says of trust in secure sums, held against its plan; nothing without them."""
    card, rules = release.card, release.card.plan.rules
    if rules is None:
        return ()
    for name, told in (("sum_collude", rules.collude), ("sum_threshold", rules.threshold)):
        if card.private and f"{name.removeprefix('sum_')} = {told}" not in card.trust_model:
            raise ReleaseError(f"card.json: its trust_model does not say {name} of the plan, which is {told}")
    return (
        f"card.json: epsilon without trust in secure sums recomputed for {len(card.sites)} sites; "
        f"at most {rules.collude} of {rules.sites} sites may help the coordinator",
    )


def _gate(release: Release) -> tuple[str, ...]:
    """The card tells which generator the gate kept, as its rule chooses; nothing where there is no gate."""
    card = release.card
    if not card.plan.gate:
        return ()
    told = card.metrics.get("gate", {})
    try:
        expected = "refined" if float(told["gain"]) > 0 else "one_shot"
    except (KeyError, TypeError, ValueError):
        raise ReleaseError("card.json: metrics do not tell the gain that the gate saw") from None
    if told.get("kept") != expected:
        raise ReleaseError(f"card.json: the gate kept {told.get('kept')!r}, by its gain it is {expected!r}")
    return (f"card.json: the gate kept the {expected} generator, by the sign of the gain",)


def _check_accounts(release: Release) -> None:
    """An account has spent at least what this run took from it."""
    accounts: tuple[AccountName, ...] = ("training", "held_out")
    for site in release.card.sites:
        for account in accounts:
            run, whole = getattr(site, f"epsilon_{account}"), getattr(site, f"account_epsilon_{account}")
            if site.account_delta <= site.delta and whole < run * (1 - _PRV_ERROR) - _PRV_ERROR:
                raise ReleaseError(
                    f"receipts.json: the {account} account of {site.site} has spent {whole}, "
                    f"this run alone took {run}"
                )


def _check_generator(release: Release) -> None:
    card, facts = release.card, release.facts
    for name, said, found in (
        ("classes", facts.classes, card.data.classes),
        ("image_shape", facts.image_shape, card.data.image_shape),
        ("task", facts.task, card.task),
        ("sha256", facts.sha256, card.generator_sha256),
        ("latent_size", facts.latent_size, facts.training.latent_size),
    ):
        if said != found:
            raise ReleaseError(f"generator.json: {name} is {said}, by card.json {found}")
    if facts.sha256 != sha256((release.folder / "generator.safetensors").read_bytes()).hexdigest():
        raise ReleaseError("generator.safetensors: its SHA-256 is not that of generator.json and card.json")
    release.generator()


def _check_words(release: Release, written: bytes) -> str:
    """card.md says what card.json says; only the version that wrote it can tell."""
    name = "medgan-federated"
    if release.card.environment.get("packages", {}).get(name) != environment()["packages"][name]:
        return "written by another version, its words were not compared"
    if written != markdown(release.card).encode():
        raise ReleaseError("card.md: its words are not those of card.json")
    return "says what card.json says"


def _signatures(release: Release) -> str:
    """Where the card has keys, every receipt is signed with that of its site."""
    receipts, keys = release.receipts, release.card.verify_keys
    if not keys:
        signed = sum(bool(receipt.signature) for receipt in receipts)
        told = f"{signed} of {len(receipts)} receipts carry a signature, but the card has no keys to check it"
        return told if signed else "no signatures: integrity only"
    for receipt in receipts:
        key = keys.get(receipt.site)
        if key is None or not signed_by(_hex(key), _hex(receipt.signature), receipt.message()):
            raise ReleaseError(
                f"receipts.json: the receipt of {receipt.site} for round {receipt.round} is not signed with "
                "the site's key on the card"
            )
    return f"{len(receipts)} receipts are signed with the keys of {len(keys)} sites on the card"


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _agree(said: object, found: object, tolerance: float) -> bool:
    """Equal, or numbers within a relative tolerance; infinity agrees with infinity alone."""
    if isinstance(said, float) and isinstance(found, float):
        return math.isclose(said, found, rel_tol=tolerance)
    return said == found
