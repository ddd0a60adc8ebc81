"""The course of a run, whatever carries the messages: request, exchange, check, aggregate, keep."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from medgan_core.config import Study
from medgan_core.errors import QuorumError, UpdateError
from medgan_core.gan.task import GanTask
from medgan_core.messages import Receipt, Request, Update
from medgan_core.privacy.plan import PrivacyPlan
from server.aggregate import check_update
from server.state import FederationState, expected_groups, next_request, server_step


@dataclass(frozen=True)
class Refusal:
    """A site that gave no acceptable update in a round, and why, as far as the coordinator may know.

    `receipt` is that of an update which arrived for this request and was refused for its content.
    """

    site: str
    reason: str
    receipt: Receipt | None = None


Exchange = Callable[[Request], Iterable[Update | Refusal]]


def federate(
    study: Study,
    task: GanTask,
    plan: PrivacyPlan,
    state: FederationState,
    exchange: Exchange,
    *,
    keep: Callable[[FederationState], None],
    refused: Callable[[Refusal], None] = lambda refusal: None,
) -> FederationState:
    """Run all rounds that are left; `keep` makes each state durable before the next request is sent.

    Raises QuorumError where too few updates are acceptable; the last kept state stays valid.
    """
    while (request := next_request(study, plan, state)) is not None:
        updates, refusals = accept(study, task, plan, state, request, exchange(request))
        for refusal in refusals:
            refused(refusal)
        # An update that is refused has left its site all the same: its charge belongs to the run's account.
        taken = {update.site for update in updates}
        spent = tuple(r.receipt for r in refusals if r.receipt is not None and r.site not in taken)
        if len(updates) < study.quorum:
            reasons = "; ".join(refusal.reason for refusal in refusals) or "no answer"
            raise QuorumError(
                f"round {request.round}: {len(updates)} acceptable updates, the study needs {study.quorum} "
                f"({reasons}). Mend the sites and resume the run, or lower sites.quorum"
            )
        state = server_step(study, task, replace(state, receipts=state.receipts + spent), updates)
        keep(state)
    return state


def accept(
    study: Study,
    task: GanTask,
    plan: PrivacyPlan,
    state: FederationState,
    request: Request,
    answers: Iterable[Update | Refusal],
) -> tuple[Sequence[Update], Sequence[Refusal]]:
    """Sort answers into acceptable updates, in the order of the sites' names, and refusals by name."""
    expected = expected_groups(study, task, state)
    updates: dict[str, Update] = {}
    refusals: list[Refusal] = []
    for answer in answers:
        if isinstance(answer, Refusal):
            refusals.append(answer)
            continue
        where = f"update of {answer.site} in round {request.round}"
        try:
            if answer.site not in state.sites:
                raise UpdateError(f"{where}: no site of this run")
            check_update(answer, request, expected)
            if answer.receipt.event != plan.event(request.phase):
                raise UpdateError(f"{where}: its receipt charged another event than the plan's")
            if answer.site in updates:
                raise UpdateError(f"{where}: answered twice")
            updates[answer.site] = answer
        except UpdateError as error:
            refusals.append(Refusal(answer.site, str(error), _charged(answer, request, plan)))
    return [updates[site] for site in sorted(updates)], refusals


def _charged(update: Update, request: Request, plan: PrivacyPlan) -> Receipt | None:
    """The receipt of a refused update, where it is that of this request: its content has left the site."""
    receipt = update.receipt
    asked = (update.site, request.run, request.round, request.phase, request.digest())
    given = (receipt.site, receipt.run, receipt.round, receipt.phase, receipt.request_digest)
    return receipt if given == asked and receipt.event == plan.event(request.phase) else None
