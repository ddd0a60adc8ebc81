"""A decision on a study, by a person or by the policy alone: the local rules, the hold, and the file."""

from contextlib import suppress

from client.approvals import Approvals, Entry
from client.diary import Diary
from client.judging import Judged
from client.policy import Rule, broken_by_data, refusal
from client.version import trainer_version
from client.workshop import Prepared, Workshop
from medgan_core.errors import BudgetError, RefusedError


def approve(
    workshop: Workshop, approvals: Approvals, diary: Diary, entry: Entry, judged: Judged, by: str
) -> Prepared:
    """Check what only this site may know, reserve the study's cost, and keep the yes: in this order.

    Killed in between it may be done again. PolicyError with the names of the rules, private ones among them,
    or BudgetError; the no is kept then.
    """
    reading = workshop.read(judged.study)
    if rules := broken_by_data(workshop.config, reading.facts):
        _refuse(approvals, diary, entry, by, rules)
        raise refusal(rules)
    prepared = workshop.prepare(entry.proposal, judged.study, reading)
    try:
        prepared.worker.approve()
    except BudgetError as error:
        _refuse(approvals, diary, entry, by, (Rule("epsilon", False, str(error)),))
        raise
    approvals.decide(entry, "approved", trainer_version(), by)
    diary.add("approved", **_of(entry), by=by, trainer=trainer_version())
    return prepared


def deny(workshop: Workshop, approvals: Approvals, diary: Diary, entry: Entry, by: str) -> None:
    """Say no; to a study that runs it ends this site's part, and what is left of its hold is free again."""
    approvals.decide(entry, "denied", trainer_version(), by)
    diary.add("denied", **_of(entry), by=by)
    with suppress(RefusedError):  # it had no hold
        workshop.ledger.close_run(entry.proposal.run)


def _refuse(approvals: Approvals, diary: Diary, entry: Entry, by: str, rules: tuple[Rule, ...]) -> None:
    names = tuple(map(str, rules))
    approvals.decide(entry, "refused", trainer_version(), by, names)
    diary.add("refused", **_of(entry), by=by, rules=names)


def _of(entry: Entry) -> dict[str, str]:
    return {"run": entry.proposal.run, "study": str(entry.proposal.study.get("name")), "digest": entry.digest}
