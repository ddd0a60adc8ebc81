"""What the receipts of a run say: whether they account for all of it, and ε of every site."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict

from medgan_core.errors import RefusedError
from medgan_core.messages import AccountName, Event, Phase, Receipt
from medgan_core.privacy.accounting import at_sites, epsilon, locally_at_sites
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.release.figures import Figure

_ACCOUNTS: tuple[AccountName, ...] = ("training", "held_out")


class SiteSpending(BaseModel):
    """What one site spent. Every ε is for one site; infinity where there was no privacy.

    `epsilon_training` and `epsilon_held_out` are those of this run at `delta`, `epsilon` the larger: no
    patient is in both sets. The `account_…` figures are ε of the whole accounts at `account_delta`, earlier
    runs included. `training_rounds` counts the adversarial rounds that the site took part in.

    Under secure sum these figures hold if no more sites than the plan says help the coordinator; `local_…`
    are those of this run without that trust, and None without secure sum, where nobody is trusted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    site: str
    training_rounds: int
    epsilon_training: Figure
    epsilon_held_out: Figure
    epsilon: Figure
    delta: float
    account_epsilon_training: Figure
    account_epsilon_held_out: Figure
    account_delta: float
    local_epsilon_training: Figure | None = None
    local_epsilon_held_out: Figure | None = None
    local_epsilon: Figure | None = None


def check_receipts(receipts: Sequence[Receipt], plan: PrivacyPlan, quorum: int = 1) -> None:
    """Refuse a run that its receipts do not account for, with RefusedError.

    Every round of the plan (0 the one-shot query, 1 … rounds, those that judge and attack) needs sealed
    receipts of at least `quorum` sites, one for each site, with the event and the account that the plan gives
    its phase.
    A secure sum needs those of the sites that its rules require, and a site has one for each repeat.
    """
    if not receipts:
        raise RefusedError("no receipts: a release that nobody accounted for cannot be built")
    if len({receipt.run for receipt in receipts}) > 1:
        raise RefusedError("receipts of several runs: a release has the receipts of one run")
    sites: defaultdict[int, set[str]] = defaultdict(set)
    seen: set[tuple[int, str, int]] = set()
    for receipt in receipts:
        check_receipt(receipt, plan)
        if (key := (receipt.round, receipt.site, receipt.repeat)) in seen:
            raise RefusedError(f"{_name(receipt)}: there is another receipt for it")
        seen.add(key)
        sites[receipt.round].add(receipt.site)
    for number in range(plan.first_round, plan.last_round + 1):
        needed = _needed(number, plan, quorum)
        if len(sites[number]) < needed:
            raise RefusedError(
                f"round {number} has receipts of {len(sites[number])} sites, needed are {needed}: "
                "a release needs a receipt for every use of data"
            )


def check_receipt(receipt: Receipt, plan: PrivacyPlan) -> None:
    """Refuse a receipt that the plan does not have for its round, with RefusedError: nor may a release."""
    phase = plan.phase(receipt.round)
    if phase is None or receipt.phase is not phase:
        raise RefusedError(
            f"{_name(receipt)} is for {receipt.phase}: the plan has {phase or 'no such round'}"
        )
    if receipt.account != plan.account(phase):
        raise RefusedError(
            f"{_name(receipt)} charged account {receipt.account}: the plan has {plan.account(phase)}"
        )
    if receipt.event != plan.event(phase):
        raise RefusedError(f"{_name(receipt)} charged {receipt.event}: the plan has {plan.event(phase)}")
    _check_sum(receipt, plan, plan.summed(phase))
    if not receipt.update_digest:
        raise RefusedError(f"{_name(receipt)} is open: what was not sealed may not leave its site")
    if math.isnan(receipt.spent) or receipt.spent < 0 or not 0 < receipt.delta < 1:
        raise RefusedError(
            f"{_name(receipt)} says epsilon {receipt.spent} at delta {receipt.delta}: "
            "expected epsilon ≥ 0 and 0 < delta < 1"
        )


def _needed(number: int, plan: PrivacyPlan, quorum: int) -> int:
    phase = plan.phase(number)
    if plan.rules is not None and phase is not None and plan.summed(phase):
        return plan.rules.survivors
    return max(quorum, 1)


def spending(receipts: Sequence[Receipt], plan: PrivacyPlan) -> tuple[SiteSpending, ...]:
    """What each site spent, by the events of its receipts, in the order of the sites' names."""
    return tuple(
        _site_spending(site, [receipt for receipt in receipts if receipt.site == site], plan)
        for site in sorted({receipt.site for receipt in receipts})
    )


def release_epsilon(receipts: Sequence[Receipt], plan: PrivacyPlan) -> float:
    """ε of the release: the largest of any site, composed over the sites that a patient may be at."""
    return max(
        epsilon(at_sites(_events(receipts, site, account), plan.max_sites_per_patient), plan.delta)
        for site in {receipt.site for receipt in receipts}
        for account in _ACCOUNTS
    )


def release_local_epsilon(receipts: Sequence[Receipt], plan: PrivacyPlan) -> float | None:
    """The same without trust in anybody's noise but a site's own; None without secure sum."""
    if plan.rules is None:
        return None
    return max(
        epsilon(locally_at_sites(_events(receipts, site, account), plan.max_sites_per_patient), plan.delta)
        for site in {receipt.site for receipt in receipts}
        for account in _ACCOUNTS
    )


def account_epsilon(
    receipts: Sequence[Receipt], plan: PrivacyPlan, site: str, account: AccountName, *, local: bool = False
) -> float:
    """ε of this run on one account of a site, composed over the sites that a patient may be at."""
    events = _events(receipts, site, account)
    composed = locally_at_sites if local else at_sites
    return epsilon(composed(events, plan.max_sites_per_patient), plan.delta)


def epsilon_by_round(receipts: Sequence[Receipt], delta: float) -> list[tuple[int, dict[str, float]]]:
    """ε of each site's training account of this run after each round."""
    names = sorted({receipt.site for receipt in receipts})
    rounds = sorted({receipt.round for receipt in receipts if receipt.account == "training"})

    def after(number: int, name: str) -> float:
        done = [receipt for receipt in receipts if receipt.round <= number]
        return epsilon(_events(done, name, "training"), delta)

    return [(number, {name: after(number, name) for name in names}) for number in rounds]


def _site_spending(site: str, receipts: Sequence[Receipt], plan: PrivacyPlan) -> SiteSpending:
    events = {name: _events(receipts, site, name) for name in _ACCOUNTS}
    training, held_out = (epsilon(events[name], plan.delta) for name in _ACCOUNTS)
    local: dict[str, float] = {}
    if plan.rules is not None:
        alone = [epsilon(locally_at_sites(events[name], 1), plan.delta) for name in _ACCOUNTS]
        local = {f"local_epsilon_{name}": value for name, value in zip(_ACCOUNTS, alone, strict=True)}
        local["local_epsilon"] = max(alone)
    return SiteSpending(
        site=site,
        training_rounds=sum(receipt.phase is Phase.TRAIN for receipt in receipts),
        epsilon_training=training,
        epsilon_held_out=held_out,
        epsilon=max(training, held_out),
        delta=plan.delta,
        account_epsilon_training=_spent(receipts, "training"),
        account_epsilon_held_out=_spent(receipts, "held_out"),
        account_delta=max(receipt.delta for receipt in receipts),
        **local,
    )


def _events(receipts: Iterable[Receipt], site: str, account: AccountName) -> list[Event]:
    """One event for each charge, also for those that only a later receipt of the round tells of.

    A receipt says how often its round had been charged before; the earlier ones may never have arrived.
    """
    last: dict[int, Receipt] = {}
    for receipt in receipts:
        known = last.get(receipt.round)
        if (receipt.site, receipt.account) == (site, account) and receipt.repeat >= (known or receipt).repeat:
            last[receipt.round] = receipt
    return [receipt.event for receipt in last.values() for _ in range(1 + receipt.repeat)]


def _spent(receipts: Sequence[Receipt], account: AccountName) -> float:
    return max((receipt.spent for receipt in receipts if receipt.account == account), default=0.0)


def _check_sum(receipt: Receipt, plan: PrivacyPlan, summed: bool) -> None:
    """What only receipts of secure sums have, and all of them."""
    local = receipt.event.local if summed else None
    if receipt.local_event != local:
        raise RefusedError(f"{_name(receipt)} charged {receipt.local_event} locally: the plan has {local}")
    if not 0 <= receipt.repeat <= (plan.max_repeats if summed else 0):
        raise RefusedError(f"{_name(receipt)} is for repeat {receipt.repeat}: the plan has fewer")
    if summed and (receipt.local_spent is None or not receipt.local_spent >= receipt.spent):
        raise RefusedError(
            f"{_name(receipt)} says local epsilon {receipt.local_spent}: expected {receipt.spent} or more"
        )


def _name(receipt: Receipt) -> str:
    return f"the receipt of site {receipt.site} for round {receipt.round}"
