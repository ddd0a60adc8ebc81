"""The preflight: everything that could go wrong in a run, looked at before one, in words for a person."""

import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from client.approvals import Approvals
from client.books import open_ledger
from client.coordinator_check import SKEW, SOON, ca_expiry, look
from client.device import default_study, device_name, steps_per_second
from client.diary import Diary
from client.egress import allowed
from client.folder import SiteFolder
from client.hospital import read_site
from client.keys import check_card
from client.policy import Facts, broken_by_data
from client.reception import check_place
from client.site_file import SiteFile
from medgan_core.config import Study, parse_study
from medgan_core.data.archives import READERS
from medgan_core.data.places import locate
from medgan_core.errors import InputError, MedGANError
from medgan_core.messages import METRICS, Phase
from medgan_core.privacy.plan import PrivacyPlan

State = Literal["ok", "warning", "bad"]
_LITTLE, _TOO_LITTLE = 5 << 30, 1 << 30


@dataclass(frozen=True)
class Finding:
    """One line of the preflight; `fix` says what to do where it is not ok."""

    name: str
    state: State
    text: str
    fix: str = ""


@dataclass(frozen=True)
class _Scene:
    folder: SiteFolder
    config: SiteFile
    study: Study
    proposed: bool
    offline: bool


def preflight(folder: SiteFolder, *, offline: bool = False) -> tuple[Finding, ...]:
    """All findings. `offline`: without the coordinator. Raises only where site.toml itself cannot be read."""
    config = folder.config()
    study, proposed = _study(folder, config)
    scene = _Scene(folder, config, study, proposed, offline)
    findings = []
    for name, check in _CHECKS.items():
        try:
            findings += [Finding(name, *found) for found in check(scene)]
        except MedGANError as error:
            findings.append(Finding(name, "bad", str(error), _FIXES.get(name, "mend it, then check again")))
    return tuple(findings)


_Found = Iterator[tuple[State, str] | tuple[State, str, str]]


def _keys(scene: _Scene) -> _Found:
    card = check_card(scene.folder, scene.config.name)
    yield (
        "ok",
        f"site {card.name}, fingerprint {card.fingerprint()}: compare it with the coordinator by phone",
    )
    for path, mode in scene.folder.too_open().items():
        present = stat.S_IMODE(path.stat().st_mode)
        yield "bad", f"{path.name} has mode {present:o}, others may use it", f"chmod {mode:o} {path.name}"


def _socket(scene: _Scene) -> _Found:
    check_place(scene.folder.socket.absolute())
    yield "ok", "trainer and node can meet"


def _coordinator(scene: _Scene) -> _Found:
    section = scene.config.coordinator
    if not section.address:
        yield "warning", "no coordinator yet", "set coordinator.address in site.toml"
        return
    ca = scene.folder.path / section.root_certificates
    yield from _expiry("the CA certificate", ca_expiry(ca))
    if scene.offline:
        yield "warning", f"{section.address} was not asked", "check again without --offline"
        return
    seen = look(section, ca)
    yield "ok", f"{section.address} answers, and its certificate is of this CA"
    yield from _expiry("the coordinator's certificate", seen.expires)
    if seen.clock is not None and abs(seen.clock - datetime.now(UTC)) > SKEW:
        yield "bad", f"clocks differ: it is {seen.clock:%H:%M:%S} UTC there", "set this machine's clock (NTP)"


def _expiry(what: str, end: datetime) -> _Found:
    left = end - datetime.now(UTC)
    fix = "ask the coordinator for a new one"
    if left.total_seconds() <= 0:
        yield "bad", f"{what} expired on {end:%Y-%m-%d}", fix
    elif left < SOON:
        yield "warning", f"{what} expires on {end:%Y-%m-%d}, in {left.days} days", fix
    else:
        yield "ok", f"{what} is good until {end:%Y-%m-%d}"


def _clock(scene: _Scene) -> _Found:
    now, notes = datetime.now(UTC), Diary(scene.folder.log).notes()
    last = datetime.fromisoformat(notes[-1].time) if notes else now
    if last - now > SKEW:
        yield "bad", f"it is {now:%Y-%m-%d %H:%M} UTC, before the last line of the log", "set the clock (NTP)"
        return
    hours = scene.config.schedule.hours
    here = "" if scene.config.schedule.open_at(now.astimezone().time()) else ", outside of the working hours"
    yield "ok", f"{now.astimezone():%Y-%m-%d %H:%M %Z}{here}; rounds begin {hours or 'at any time'}"


def _device(scene: _Scene) -> _Found:
    speed, steps = steps_per_second(scene.study), scene.study.training.discriminator_steps
    of = scene.study.name if scene.proposed else "a study of defaults"
    yield (
        "ok",
        f"{device_name()}: {speed:.3g} discriminator steps/s of {of}, about {steps / speed:.0f} s a round",
    )


def _disk(scene: _Scene) -> _Found:
    free = shutil.disk_usage(scene.folder.path).free
    state: State = "ok" if free >= _LITTLE else "warning" if free >= _TOO_LITTLE else "bad"
    yield (
        state,
        f"{free / 2**30:.1f} GiB free",
        "" if state == "ok" else "free some space: updates are kept here",
    )


def _data(scene: _Scene) -> _Found:
    with open_ledger(scene.folder, scene.config) as ledger:
        reading = read_site(scene.folder, scene.config, scene.study, ledger.pseudonym)
    facts, classes = reading.facts, scene.study.data.classes
    yield (
        "ok",
        f"{facts.images} images of {facts.patients} patients to train on and {facts.held_out} to judge by",
    )
    training = reading.site.training
    counts = training.labels.bincount(minlength=len(classes)).tolist()
    yield "ok", "images to train on: " + ", ".join(f"{c} {n}" for c, n in zip(classes, counts, strict=True))
    for reason, count in facts.left_out.items():
        yield (
            "warning",
            f"left out: {count} images, {reason}",
            "map labels in [labels], name patients, or leave it",
        )
    yield from _rules(scene.config, facts)


def _rules(config: SiteFile, facts: Facts) -> _Found:
    for rule in broken_by_data(config, facts):
        yield "bad", str(rule), f"more data, or change {rule.name} in site.toml"
    for name in facts.missing:
        yield "warning", f"no image of class {name}", "see whether a label should be mapped to it"


def _ledger(scene: _Scene) -> _Found:
    diary = Diary(scene.folder.log)
    with open_ledger(scene.folder, scene.config, diary) as ledger:
        ledger.verify()
        head = ledger.witness()
        yield "ok", f"chain of {head.sequence} entries and log of {len(diary.notes())} lines are whole"
        for account in ledger.accounts():
            spent, left = ledger.spent(account), ledger.remaining(account)
            text = f"account {account[:8]}: epsilon {spent:.4g} spent, {left:.4g} left"
            yield (
                ("ok", text)
                if left > 0
                else ("warning", text, "no study can run on it until the cap is raised")
            )


def _policy(scene: _Scene) -> _Found:
    policy, data = scene.config.policy, scene.config.data
    person = "a person approves each study" if policy.approval else "whatever keeps to this policy runs"
    yield (
        "ok",
        f"epsilon {policy.epsilon:g} in all, {policy.epsilon_per_study:g} a study, "
        f"delta {policy.delta:g}; {person}",
    )
    if policy.privacy_off:
        yield "warning", "studies WITHOUT PRIVACY may run here", "set policy.privacy_off = false"
    if data.public:
        yield "warning", "the images are declared public", "set data.public = false unless you answer for it"


def _leaving(scene: _Scene) -> _Found:
    study = scene.study
    plan = PrivacyPlan.of(study, "patient")
    for phase in Phase:
        if (phase is Phase.TRAIN and not study.rounds) or (phase is Phase.GATE and not study.gated):
            continue
        for group, tensors in allowed(study, plan, phase).items():
            size = sum(_bytes(shape, dtype.itemsize) for shape, dtype in tensors.values())
            what = (
                f"{group}, {len(tensors)} tensors" if len(tensors) > 1 else f"{group} {next(iter(tensors))}"
            )
            how = (
                "masked, in a secure sum" if plan.summed(phase) else "with noise" if plan.private else "PLAIN"
            )
            yield "ok", f"{phase}: {what} ({size} bytes), {how}"
    metrics = sorted(METRICS[Phase.TRAIN] & set(scene.config.policy.metrics))
    yield (
        "ok",
        f"metrics of fakes: {', '.join(metrics) or 'none'}; receipts with epsilon and steps; nothing else",
    )


def _bytes(shape: tuple[int, ...], each: int) -> int:
    for side in shape:
        each *= side
    return each


_CHECKS: dict[str, Callable[[_Scene], _Found]] = {
    "keys": _keys,
    "socket": _socket,
    "coordinator": _coordinator,
    "clock": _clock,
    "device": _device,
    "disk": _disk,
    "data": _data,
    "ledger": _ledger,
    "policy": _policy,
    "what leaves": _leaving,
}
_FIXES = {
    "keys": "run medgan-client rotate-key, and have the new card enrolled",
    "coordinator": "put the coordinator's CA certificate in place; mind address, proxy and firewall",
    "socket": "move the site's folder to a shorter path",
    "data": "mend the file that is named, or [data] in site.toml",
    "ledger": "run medgan-client restore with the newest backup",
}


def _study(folder: SiteFolder, config: SiteFile) -> tuple[Study, bool]:
    """The newest study that was proposed, else one of defaults with this site's own classes."""
    for entry in reversed(Approvals(folder.studies).all()):
        if not entry.closed:
            return parse_study(entry.proposal.study), True
    return default_study(_own_classes(folder, config)), False


def _own_classes(folder: SiteFolder, config: SiteFile) -> tuple[str, ...]:
    """The classes that site.toml knows, else those of the files; for this screen alone."""
    if named := tuple(dict.fromkeys(config.labels.values())) or config.data.classes:
        return named
    own = config.data
    data = default_study().data.model_copy(
        update={"kind": own.kind, "path": own.path, "patients": own.patients, "labels": own.labels}
    )
    try:
        found = READERS[data.kind](data, locate(folder.path.resolve(), data.path))
    except InputError:  # the check of the data tells what is wrong
        return ("a", "b")
    return tuple(sorted(set(found.labels)))[:100]
