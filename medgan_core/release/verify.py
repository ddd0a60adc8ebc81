"""Check a release offline: hashes, signatures, receipts against the study, ε, weights, expiry, recall.

Every check that passes is one line; the first that fails raises ReleaseError, whose message begins with the
name of the file. A manifest that was made anew over changed files passes the hashes and fails here. Who made
the release is shown by keys that came another way alone; without them it is shown to be whole, and no more.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from medgan_core.errors import ConfigError, ReleaseError
from medgan_core.messages import AccountName
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.record import environment, json_bytes
from medgan_core.release.bundle import Release
from medgan_core.release.card import expiry
from medgan_core.release.card_text import markdown
from medgan_core.release.check.proof import prove
from medgan_core.release.check.report import words_agree
from medgan_core.release.files import CHECKED, read_files
from medgan_core.release.monai_configs import configs
from medgan_core.release.ports import ports
from medgan_core.release.recalls import RecallList
from medgan_core.release.signers import check_manifest, check_receipts_signed
from medgan_core.release.spending import release_epsilon, release_local_epsilon, spending
from medgan_core.release.trust import Trust

# A search for noise on another machine may end one bisection step beside this one, which is a part in 1000.
_SEARCH = 2e-3
# PRV's ε is exact to 0.01: a longer history may come out that much below a part of it.
_PRV_ERROR = 0.02
_SAME = 1e-9
_SOON = timedelta(days=30)


@dataclass(frozen=True)
class Verification:
    """What was checked, a line each; `privacy` is "dp" or "NOT PRIVATE", ε infinite for the latter.

    `local_epsilon` is ε without trust in secure sums, None where there were none. `signers` names those whose
    signatures were checked with keys that the person trusts, and is empty without such keys: then the release
    was shown to be whole, and not whose it is. `warnings` are for a person.
    """

    lines: tuple[str, ...]
    privacy: str
    epsilon: float
    delta: float
    local_epsilon: float | None = None
    signers: str = ""
    warnings: tuple[str, ...] = ()


def verify_release(
    folder: Path | str,
    trust: Trust | None = None,
    recalls: RecallList | None = None,
    now: datetime | None = None,
) -> Verification:
    """Check a whole release, with the keys that a person trusts and a list of recalled ones where given.

    `now` is the time at which it is to be used, by default this machine's. Raises ReleaseError naming the
    file that fails, InputError where the folder is no release.
    """
    release = Release.open(folder)
    receipts, card = release.receipts, release.card
    sites = len({receipt.site for receipt in receipts})
    # What is in the files before the manifest's signature: it names more closely what was touched.
    signed = check_receipts_signed(receipts, card.verify_keys, trust)
    content, doubts = _content(release)
    lines = (
        f"receipts.json: {len(receipts)} receipts of {sites} sites cover every round of the plan",
        f"receipts.json: {signed}",
        *content,
        *_beside(release),
    )
    made_by, coordinator = check_manifest(release.folder, trust)
    recalled = _recall(release, recalls, trust)
    warnings = (*doubts, *_expiry(release, now or datetime.now(UTC)))
    signers = f"{sites} sites and the coordinator {coordinator}" if trust is not None else ""
    return Verification(
        (*lines, made_by, *recalled),
        card.privacy,
        card.epsilon,
        card.delta,
        card.local_epsilon,
        signers,
        warnings,
    )


def _content(release: Release) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Lines on what the files say, each held against the others, and warnings."""
    files, sites = read_files(release.folder), len(release.card.sites)
    _check_study(release)
    _check_epsilon(release)
    _check_accounts(release)
    gate = _gate(release)
    _check_generator(release)
    checked, doubts = prove(release, same_version=not _other_version(release))
    lines = (
        f"manifest.json: SHA-256 of {len(files)} files agree",
        "study.toml: its privacy plan is the card's",
        f"card.json: epsilon of {sites} sites recomputed from the receipts' events",
        *_trust(release),
        *gate,
        f"card.md: {_check_words(release, files['card.md'])}",
        *_configs(release, files),
        "generator.safetensors: names, shapes and values fit generator.json",
        *checked,
    )
    return lines, doubts


def _beside(release: Release) -> tuple[str, ...]:
    """Lines on what a release check added: the report and the images as DICOM."""
    files = read_files(release.folder)
    added = [name for name in files if name in CHECKED or name.startswith("samples/")]
    if release.card.check is None and added:
        raise ReleaseError(f"{added[0]}: it is of a release check, of which card.json does not know")
    if release.card.check is None:
        return ()
    if not added:
        raise ReleaseError(f"{CHECKED[0]} is missing: a release check writes it")
    from medgan_core.release.check.dicom import check_samples  # highdicom takes a second to import

    same = not _other_version(release)
    if same and not words_agree(files["report.html"], release.card):
        raise ReleaseError("report.html: its words are not those of card.json")
    said = "says what card.json says" if same else "written by another version, its words were not compared"
    return (f"report.html: {said}", *check_samples(release, files, same_version=same))


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
        "attacks": (tuple(card.metrics.get("attacks", {}).get("names", ())), study.attacks),
        "neighbours": (card.neighbours, planned.neighbours),
        "delta": (card.delta, planned.delta),
        "run": (card.run, release.receipts[0].run),
        "contact": (card.contact, study.release.contact),
        "licence": (card.licence, study.release.licence),
        "expires": (card.expires, _expected_end(release)),
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


def _expected_end(release: Release) -> str:
    try:
        return expiry(release.card.created, release.study.release.valid_days)
    except (ValueError, OverflowError) as error:
        raise ReleaseError("card.json: created is no time in ISO 8601") from error


def _expiry(release: Release, now: datetime) -> tuple[str, ...]:
    """A warning for a release that ends soon; ReleaseError for one that has ended."""
    card = release.card
    if not card.expires:
        return ()
    end = datetime.fromisoformat(card.expires)
    end = end if end.tzinfo else end.replace(tzinfo=UTC)
    if now >= end:
        whom = card.contact or "whoever gave it to you"
        raise ReleaseError(
            f"card.json: the release was to be used until {card.expires}; ask {whom} for a new one"
        )
    return (f"card.json: the release is to be used until {card.expires}",) if end - now < _SOON else ()


def _recall(release: Release, recalls: RecallList | None, trust: Trust | None) -> tuple[str, ...]:
    """A line where a list was given that does not hold the release. ReleaseError where it does."""
    if recalls is None:
        return ()
    known = recalls.checked(trust)
    entry = recalls.entry(release.card.generator_sha256)
    if entry is not None:
        raise ReleaseError(
            f"{recalls.name}: the release was recalled at {entry.recalled}: {entry.reason}; stop using it"
        )
    return (
        f"{recalls.name}: {known} of {recalls.issued}, {len(recalls.entries)} recalled; not this release",
    )


def _configs(release: Release, files: Mapping[str, bytes]) -> tuple[str, ...]:
    """What MONAI would run is what is made of the card; only the version that wrote it can tell."""
    made = configs(release.card, ports(release.facts.make_task()))
    names = [name for name in made if f"configs/{name}" in files]
    if not names:
        return ()
    if _other_version(release):
        return ("configs/: written by another version, not compared; MONAI runs them as a program",)
    for name in names:
        if files[f"configs/{name}"] != json_bytes(made[name]):
            raise ReleaseError(f"configs/{name}: not what is made of card.json; do not run it")
    return (f"configs/{', configs/'.join(names)}: made of card.json",)


def _other_version(release: Release) -> bool:
    name = "medgan-federated"
    return bool(release.card.environment.get("packages", {}).get(name) != environment()["packages"][name])


def _check_words(release: Release, written: bytes) -> str:
    """card.md says what card.json says; only the version that wrote it can tell."""
    if _other_version(release):
        return "written by another version, its words were not compared"
    if written != markdown(release.card).encode():
        raise ReleaseError("card.md: its words are not those of card.json")
    return "says what card.json says"


def _agree(said: object, found: object, tolerance: float) -> bool:
    """Equal, or numbers within a relative tolerance; infinity agrees with infinity alone."""
    if isinstance(said, float) and isinstance(found, float):
        return math.isclose(said, found, rel_tol=tolerance)
    return said == found
