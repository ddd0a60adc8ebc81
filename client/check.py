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
from client.diary import Diary
from client.egress import allowed
from client.folder import SiteFolder
from client.hospital import as_here, read_records, read_site
from client.keys import check_card
from client.policy import Facts, broken_by_data
from client.reception import check_place
from client.site_file import TRAINER_DEVICE, SiteFile
from client.speed import default_study, steps_per_second
from medgan_core.config import Study, parse_study
from medgan_core.data.dicom.report_card import ReportCard
from medgan_core.data.dicom.text import can_look
from medgan_core.device import choose, device_name
from medgan_core.errors import MedGANError
from medgan_core.messages import Phase, metrics_of
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
    device = choose(scene.config.trainer.device, TRAINER_DEVICE)
    speed = steps_per_second(scene.study, device=device)
    steps = scene.study.training.discriminator_steps
    of = scene.study.name if scene.proposed else "a study of defaults"
    seconds = f"{speed:.3g} discriminator steps/s of {of}, about {steps / speed:.0f} s a round"
    yield "ok", f"{device_name(device)}: {seconds}"


def _disk(scene: _Scene) -> _Found:
    free = shutil.disk_usage(scene.folder.path).free
    state: State = "ok" if free >= _LITTLE else "warning" if free >= _TOO_LITTLE else "bad"
    yield (
        state,
        f"{free / 2**30:.1f} GiB free",
        "" if state == "ok" else "free some space: updates are kept here",
    )


def _source(scene: _Scene) -> _Found:
    section = scene.config.source
    if not section.pulled:
        rules = section.cohort.rules or section.label.given
        yield "ok", "images are files, as [data] says" + (", and rules of [source]" if rules else "")
        return
    from client.pulling import look  # of a site with an archive alone

    if scene.offline:
        yield "warning", "the archive of images was not asked", "check again without --offline"
        return
    found = look(scene.folder, scene.config)
    studies = len(found.jobs)
    state: State = "ok" if found.series else "warning"
    fix = "" if found.series else "mind source.cohort; an empty rule admits all"
    yield state, f"the archive answers: {found.series} series of {studies} studies are of the cohort", fix
    for why, count in sorted(found.left_out.items()):
        yield "ok", f"not of the cohort: {count} studies or series, by {why}"


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
    if reading.report is not None:
        yield from _ingest(scene.config, reading.report)


def _ingest(config: SiteFile, report: ReportCard) -> _Found:
    yield "ok", f"{report.files} DICOM files: {report.read} read, {report.mended} of them repaired"
    if config.data.text_check and not config.data.public and not can_look():
        yield (
            "bad",
            "text in images cannot be looked for",
            "install tesseract, or set data.text_check = false",
        )
    elif not report.text_checked and not config.data.public:
        yield "warning", "text in images is not looked for", "set data.text_check = true"
    for state, count, why in report.lines():
        place = "medgan-client quarantine lists them" if state == "refused" else ""
        yield ("warning" if state == "refused" else "ok"), f"{state}: {count} files, {why}", place


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
    phases = {plan.phase(number) for number in range(study.first_round, study.last_round + 1)}
    for phase in Phase:
        if phase not in phases:
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
    metrics = sorted(metrics_of(Phase.TRAIN, study.free_fakes) & set(scene.config.policy.metrics))
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
    "source": _source,
    "data": _data,
    "ledger": _ledger,
    "policy": _policy,
    "what leaves": _leaving,
}
_FIXES = {
    "keys": "run medgan-client rotate-key, and have the new card enrolled",
    "coordinator": "put the coordinator's CA certificate in place; mind address, proxy and firewall",
    "device": 'set trainer.device = "auto" or "cpu" in site.toml, or install the GPU\'s driver',
    "socket": "move the site's folder to a shorter path",
    "source": "mend what is named, or [source] in site.toml",
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
    try:
        data = as_here(folder, config, default_study().data)
        with open_ledger(folder, config) as ledger:
            found = read_records(folder, config, data, ledger.pseudonym)
    except MedGANError:  # the check of the data, or of the ledger, tells what is wrong
        return ("a", "b")
    return tuple(sorted(set(found.labels)))[:100]
