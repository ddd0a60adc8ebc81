"""What a site's policy allows on the accounts of its ledger: from events to ε, and to a yes or no."""

import math
from collections import Counter
from dataclasses import dataclass

from medgan_core.errors import BudgetError, ConfigError
from medgan_core.messages import Event
from medgan_core.privacy.accounting import epsilon
from medgan_core.privacy.accounts import Books, Mechanism, Run, count_steps, to_events


@dataclass(frozen=True)
class LedgerPolicy:
    """A site's own policy, never a study's.

    `epsilon_cap` in (0, ∞] bounds the committed ε (spent and held) of every account; an infinite cap is
    needed for runs without privacy. `delta` in (0, 1) is the δ at which every ε of this site is stated.
    """

    epsilon_cap: float = 20.0
    delta: float = 1e-5

    def __post_init__(self) -> None:
        if not self.epsilon_cap > 0:
            raise ConfigError("epsilon_cap", self.epsilon_cap, "a number above 0, or inf")
        _check_delta(self.delta)


@dataclass(frozen=True)
class Budget:
    """A policy applied to books. Each ε asks an accountant (up to about a second for a new history)."""

    policy: LedgerPolicy
    books: Books

    def spent(self, account: str, delta: float | None = None) -> float:
        """ε of what was charged, at `delta` or at the policy's δ."""
        return self._epsilon(self.books.spent(account), delta)

    def committed(self, account: str) -> float:
        """ε of what was charged and what open runs hold."""
        return self._epsilon(self.books.spent(account) + self.books.held(account))

    def remaining(self, account: str) -> float:
        """The cap less the committed ε, not below 0."""
        cap = self.policy.epsilon_cap
        return cap if math.isinf(cap) else max(0.0, cap - self.committed(account))

    def check_hold(self, run: str, account: str, steps: Counter[Mechanism]) -> None:
        """BudgetError where this hold would bring the account's committed ε above the cap."""
        cap = self.policy.epsilon_cap
        if any(event.infinite for event in to_events(steps)) and cap < math.inf:
            raise BudgetError(
                f"run {run!r} has no privacy (noise multiplier 0, infinite epsilon) and this site caps "
                f"epsilon at {_show(cap)}: only a site whose administrator sets the cap to inf can take part"
            )
        if self._epsilon(self.books.spent(account) + self.books.held(account) + steps) > cap:
            raise BudgetError(
                f"run {run!r} asks for epsilon {_show(self._epsilon(steps))}; spent "
                f"{_show(self.spent(account))}, left {_show(self.remaining(account))} beside what open runs "
                f"hold, cap {_show(cap)} (delta {self.policy.delta:g}): choose a smaller epsilon or fewer "
                "rounds, close runs that are over, or ask the site's administrator to raise the cap"
            )

    def spend(self, run: str, account: str, event: Event) -> float:
        """ε of the account after this event of an open run. BudgetError for more than was held."""
        left = self.open_run(run).left.get(account, Counter())[event.noise_multiplier, event.sampling_rate]
        if left < event.steps:
            raise BudgetError(
                f"run {run!r} asks for more steps than held: {event.steps} steps with noise multiplier "
                f"{event.noise_multiplier:g} and sampling rate {event.sampling_rate:g}, {left} are left; "
                "plan a new run for further rounds"
            )
        cap, spent = self.policy.epsilon_cap, self._epsilon(self.books.spent(account) + count_steps([event]))
        # Compared with what was approved as well: an accountant's rounding may not stop a run at its end.
        if spent > cap and self.committed(account) > cap:
            raise BudgetError(
                f"this round would bring the account to epsilon {_show(spent)}, above the site's cap of "
                f"{_show(cap)}: the cap was lowered or accounts were merged after the run was approved; "
                "close the run, or ask the site's administrator to raise the cap"
            )
        return spent

    def open_run(self, run: str) -> Run:
        """The hold of a run. BudgetError where there is none, or where it was closed."""
        known = self.books.runs.get(run)
        if known is None or known.closed:
            state = "has no hold at this site" if known is None else "is closed at this site"
            raise BudgetError(f"run {run!r} {state}: have the run approved under a new name first")
        return known

    def _epsilon(self, steps: Counter[Mechanism], delta: float | None = None) -> float:
        if delta is not None:
            _check_delta(delta)
        return epsilon(to_events(steps), self.policy.delta if delta is None else delta)


def check_event(event: Event) -> Event:
    """The event in plain numbers. ConfigError for values that would cost nothing, or less."""
    if not 0 <= event.noise_multiplier < math.inf:
        raise ConfigError("noise_multiplier", event.noise_multiplier, "a finite number, not below 0")
    if not 0 < event.sampling_rate <= 1:
        raise ConfigError("sampling_rate", event.sampling_rate, "a number above 0 and at most 1")
    if not 1 <= event.steps < math.inf or event.steps != int(event.steps):
        raise ConfigError("steps", event.steps, "a whole number from 1")
    return Event(float(event.noise_multiplier), float(event.sampling_rate), int(event.steps))


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ConfigError("delta", delta, "a number between 0 and 1")


def _show(value: float) -> str:
    return "infinite" if math.isinf(value) else f"{value:.4g}"
