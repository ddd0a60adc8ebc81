"""The course of a run, whatever carries the messages: request, exchange, check, aggregate, keep."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from medgan_core.config import Study
from medgan_core.device import CPU
from medgan_core.errors import QuorumError, RoundError, UpdateError
from medgan_core.gan.task import GanTask
from medgan_core.messages import Phase, Request, Update
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.privacy.sum_session import Cohort
from server.aggregate import charged, check_charge, check_norm, check_statistics, check_update
from server.exchange import Answer, Exchange, Refusal
from server.secure import SecureRound
from server.spill import Spill
from server.state import FederationState, Summed, accounted, expected_groups, next_request, server_step

__all__ = ["Answer", "Exchange", "Refusal", "accept", "federate"]


def federate(
    study: Study,
    task: GanTask,
    plan: PrivacyPlan,
    state: FederationState,
    exchange: Exchange,
    *,
    keep: Callable[[FederationState], None],
    refused: Callable[[Refusal], None] = lambda refusal: None,
    cohort: Cohort | None = None,
    spill: Path | None = None,
    device: torch.device = CPU,
) -> FederationState:
    """Run all rounds that are left; `keep` makes each state durable before the next request is sent.

    `cohort` are the sites of secure sums with the keys that they have pinned of each other. The updates of
    a round lie in the folder `spill` until it is over (None: a temporary one): memory holds one of them. The
    coordinator's own networks run on `device`.
    Raises QuorumError where too few updates are acceptable. A round that failed is kept with the receipts of
    what left the sites: resumed, its request is asked again, and a secure sum is another attempt.
    """
    step = partial(server_step, study, task, device=device)
    with Spill(spill) as spilled:
        while (request := next_request(study, plan, state)) is not None:
            if plan.summed(request.phase):
                state = _summed(study, task, plan, state, request, exchange, cohort, keep, refused, step)
            else:
                state = _gathered(study, task, plan, state, request, exchange, spilled, keep, refused, step)
            keep(state)
    return state


def _gathered(
    study: Study,
    task: GanTask,
    plan: PrivacyPlan,
    state: FederationState,
    request: Request,
    exchange: Exchange,
    spilled: Spill,
    keep: Callable[[FederationState], None],
    refused: Callable[[Refusal], None],
    step: Callable[..., FederationState],
) -> FederationState:
    """The state after a round in which every site's update came by itself."""
    try:
        updates, refusals = accept(study, task, plan, state, request, exchange(request), spilled.keep)
        for refusal in refusals:
            refused(refusal)
        # What a site was charged for has left it, whether its update is acceptable, or used, or not.
        taken = [update.receipt for update in updates]
        spent = [refusal.receipt for refusal in refusals if refusal.receipt is not None]
        state = replace(state, receipts=accounted(state.receipts, taken + spent))
        try:
            if len(updates) < study.quorum:
                reasons = "; ".join(map(str, refusals)) or "no answer"
                raise QuorumError(
                    f"round {request.round}: {len(updates)} acceptable updates, the study needs "
                    f"{study.quorum} ({reasons}). Mend the sites and resume the run, or lower sites.quorum"
                )
            return step(state, updates)
        except RoundError:
            keep(state)
            raise
    finally:
        spilled.clear()


def _summed(
    study: Study,
    task: GanTask,
    plan: PrivacyPlan,
    state: FederationState,
    request: Request,
    exchange: Exchange,
    cohort: Cohort | None,
    keep: Callable[[FederationState], None],
    refused: Callable[[Refusal], None],
    step: Callable[..., FederationState],
) -> FederationState:
    """The state after a round in which the sites' parts came as one sum."""
    if cohort is None or plan.rules is None:
        raise RoundError(f"round {request.round} is a secure sum: it needs the public keys of its sites")
    [like] = expected_groups(study, task, state)["statistics"].values()
    attempt = SecureRound(request, plan, plan.rules, cohort, state.attempt, exchange)
    try:
        total = attempt.run(like)
        return step(state, (), Summed(total, attempt.sites, tuple(attempt.receipts)))
    except RoundError:
        keep(replace(state, attempt=state.attempt + 1, receipts=accounted(state.receipts, attempt.receipts)))
        raise
    finally:
        for refusal in attempt.refusals.values():
            refused(refusal)


def accept(
    study: Study,
    task: GanTask,
    plan: PrivacyPlan,
    state: FederationState,
    request: Request,
    answers: Iterable[Answer],
    put_by: Callable[[Update], Update] = lambda update: update,
) -> tuple[Sequence[Update], Sequence[Refusal]]:
    """Sort answers into acceptable updates, in the order of the sites' names, and refusals by name.

    Each update is checked as it comes, and what `put_by` makes of it is all that is held of it from then on.
    Nothing is summed before the last one came, so a site that is refused or late is in no sum.
    """
    expected = expected_groups(study, task, state)
    updates: dict[str, Update] = {}
    refusals: list[Refusal] = []

    def check(answer: Answer) -> Update:
        where = f"update of {answer.site} in round {request.round}"
        if answer.site not in state.sites:
            raise UpdateError(f"{where}: no site of this run")
        if not isinstance(answer, Update):
            raise UpdateError(f"{where}: none, but a message of a secure sum")
        check_update(answer, request, expected, free_fakes=study.free_fakes)
        check_charge(answer, request, plan)
        if request.phase is Phase.TRAIN:
            check_norm(answer, expected, study.aggregation.norm_bound)
        else:
            check_statistics(answer, plan.deviation(request.phase))
        if answer.site in updates:
            raise UpdateError(f"{where}: answered twice")
        return answer

    for answer in answers:
        if isinstance(answer, Refusal):
            refusals.append(answer)
            continue
        try:
            updates[answer.site] = put_by(check(answer))
        except UpdateError as error:
            receipt = charged(answer, request, plan) if isinstance(answer, Update) else None
            refusals.append(Refusal(answer.site, str(error), receipt))
        del answer  # or two would be in memory while the next one comes
    return [updates[site] for site in sorted(updates)], refusals
