"""ε of an account from its events, by several accountants: do they agree with what the ledger says?"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from medgan_core.messages import Event
from medgan_core.privacy.accounting import epsilon, renyi_epsilon
from medgan_core.privacy.audit.checks import Outcome

_TOLERANCE = 0.01


def exported_outcomes(export: Mapping[str, Any]) -> tuple[Outcome, ...]:
    """Those of all accounts of a ledger's export in which something is charged."""
    delta = float(export["policy"]["delta"])
    return tuple(
        account_outcome(
            account[:8], [Event(**event) for event in body["events"]], float(body["spent"]), delta
        )
        for account, body in export["accounts"].items()
        if body["events"]
    )


def account_outcome(name: str, events: Sequence[Event], spent: float, delta: float) -> Outcome:
    """What the ledger says is spent, against the events recomputed by PRV, Rényi DP and, installed, PLD."""
    ours, renyi, losses = epsilon(events, delta), renyi_epsilon(events, delta), by_losses(events, delta)
    told = {"ledger": spent, "PRV": ours, "RDP": renyi} | ({} if losses is None else {"PLD": losses})
    text = ", ".join(f"{who} {value:.4g}" for who, value in told.items())
    same = _near(spent, ours)
    safe = losses is None or ours >= losses * (1 - _TOLERANCE)
    below = renyi == math.inf or ours <= renyi * (1 + _TOLERANCE)
    sound = same and safe and below
    return Outcome(
        f"account {name}", "passed" if sound else "failed", f"ε by {text}", 1.0 if sound else 0.0, told
    )


def by_losses(events: Sequence[Event], delta: float) -> float | None:
    """ε by dp-accounting's privacy loss distributions; None where it is not installed or cannot tell."""
    if any(event.shares or event.infinite for event in events):
        return None
    try:
        from dp_accounting import NeighboringRelation
        from dp_accounting.dp_event import GaussianDpEvent, PoissonSampledDpEvent
        from dp_accounting.pld import PLDAccountant
    except ImportError:
        return None
    accountant = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for event in events:
            gaussian = GaussianDpEvent(event.noise_multiplier)
            sampled = event.sampling_rate < 1
            mechanism = PoissonSampledDpEvent(event.sampling_rate, gaussian) if sampled else gaussian
            accountant.compose(mechanism, event.steps)
        return float(accountant.get_epsilon(delta))


def _near(one: float, other: float) -> bool:
    return one == other or math.isclose(one, other, rel_tol=1e-6)
