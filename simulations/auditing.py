"""`medgan-sim audit`: the mechanism of a study, and the books of a run that was made here."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from client.audited import mechanism_of
from client.noise_log import noise_outcome
from medgan_core.config import load_study
from medgan_core.errors import InputError
from medgan_core.privacy.audit.books import exported_outcomes
from medgan_core.privacy.audit.checks import Outcome
from medgan_core.privacy.audit.run import AuditReport, Say, audit
from medgan_core.record import RunFolder, read_json
from server.planning import decided
from simulations.course import LEDGERS
from simulations.hospitals import NOISE
from simulations.shipped import study_path


def audit_study(asked: str, changes: Sequence[str], say: Say) -> AuditReport:
    """The audit of a study file, a shipped study, or a run's folder. InputError where it is none of them."""
    if not (Path(asked) / "study.toml").is_file():
        return audit(mechanism_of(decided(load_study(study_path(asked), changes))), say=say)
    if changes:
        raise InputError("--set: a run's study is as it was; leave it out, or name the study")
    run = RunFolder.open(Path(asked))
    return audit(mechanism_of(run.study()), tuple(_of_run(run)), say)


def _of_run(run: RunFolder) -> Iterator[Outcome]:
    """Accounts and noise of its sites."""
    if (run.path / LEDGERS).is_file():
        for export in read_json(run.path / LEDGERS).values():
            yield from exported_outcomes(export)
    lines = [
        json.loads(line)
        for file in sorted(run.sites.glob(f"*/{NOISE}"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    yield from noise_outcome(lines)
