"""What a site's policy allows on the accounts of its ledger: from events to ε, and to a yes or no."""

import math
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

from medgan_core.errors import BudgetError, ConfigError
from medgan_core.messages import Event, float_to_json
from medgan_core.privacy.accounting import epsilon
from medgan_core.privacy.accounts import Books, Mechanism, Run, count_steps, mechanism, to_events


@dataclass(frozen=True)
class LedgerPolicy:
    """A site's own policy, never a study's.

    `epsilon_cap` in (0, ∞] bounds the committed ε (spent and held) of every account; an infinite cap is
    needed for runs without privacy. `delta` in (0, 1) is the δ at which every ε of this site is stated.

    A secure sum is worth less where the other sites and the server work together. The cap counts this local
    ε unless `trust_secure_sum`; then it counts the trusted one, and `local_epsilon` in (0, ∞] bounds the
    local ε of every account that took part in such a sum. `max_repeats` is how often a round of a secure sum
    may be charged again at this site.
    """

    epsilon_cap: float = 20.0
    delta: float = 1e-5
    trust_secure_sum: bool = False
    local_epsilon: float = 100.0
    max_repeats: int = 1

    def __post_init__(self) -> None:
        if not self.epsilon_cap > 0:
            raise ConfigError("epsilon_cap", self.epsilon_cap, "a number above 0, or inf")
        if not self.local_epsilon > 0:
            raise ConfigError("local_epsilon", self.local_epsilon, "a number above 0, or inf")
        if not 0 <= self.max_repeats < math.inf or self.max_repeats != int(self.max_repeats):
            raise ConfigError("max_repeats", self.max_repeats, "a whole number from 0")
        _check_delta(self.delta)

    def to_json(self) -> dict[str, Any]:
        """A plain dict for JSON, infinity as "inf"."""
        return {
            name: float_to_json(value) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class Budget:
    """A policy applied to books. Each ε asks an accountant (up to about a second for a new history)."""

    policy: LedgerPolicy
    books: Books

    def spent(self, account: str, delta: float | None = None, *, local: bool = False) -> float:
        """ε of what was charged, at `delta` or at the policy's δ; `local`: without trust in secure sums."""
        steps = self.books.spent(account)
        return self._epsilon(_local(steps) if local else steps, delta)

    def committed(self, account: str) -> float:
        """ε of what was charged and what open runs hold, as the cap counts it."""
        return self._counted(self.books.spent(account) + self.books.held(account))

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
        whole = self.books.spent(account) + self.books.held(account) + steps
        if self._counted(whole) > cap:
            raise BudgetError(
                f"run {run!r} asks for epsilon {_show(self._counted(steps))}{self._of_what(steps)}; spent "
                f"{_show(self._counted(self.books.spent(account)))}, left {_show(self.remaining(account))} "
                f"beside what open runs hold, cap {_show(cap)} (delta {self.policy.delta:g}): choose a "
                "smaller epsilon or fewer rounds, close runs that are over, or ask the site's administrator "
                "to raise the cap"
            )
        if self._beyond_local(whole):
            raise BudgetError(
                f"run {run!r} would bring the account to epsilon {_show(self._epsilon(_local(whole)))} if "
                f"the other sites and the server worked together, above this site's local_epsilon of "
                f"{_show(self.policy.local_epsilon)}: choose a smaller epsilon or fewer sites, or ask the "
                "site's administrator to raise it"
            )

    def spend(self, run: str, account: str, event: Event) -> tuple[float, float | None]:
        """ε of the account after this event of an open run, and the local one where it is another.

        BudgetError for more than was held.
        """
        left = self.open_run(run).left.get(account, Counter())[mechanism(event)]
        if left < event.steps:
            raise BudgetError(
                f"run {run!r} asks for more steps than held: {event.steps} steps with noise multiplier "
                f"{event.noise_multiplier:g} and sampling rate {event.sampling_rate:g}, {left} are left; "
                "plan a new run for further rounds"
            )
        cap, after = self.policy.epsilon_cap, self.books.spent(account) + count_steps([event])
        held = self.books.spent(account) + self.books.held(account)
        # Compared with what was approved as well: an accountant's rounding may not stop a run at its end.
        over = self._counted(after) > cap and self._counted(held) > cap
        if over or (self._beyond_local(after) and self._beyond_local(held)):
            raise BudgetError(
                f"this round would bring the account to epsilon {_show(self._counted(after))}, above the "
                f"site's cap of {_show(cap)} or its local_epsilon: they were lowered or accounts were merged "
                "after the run was approved; close the run, or ask the site's administrator to raise the cap"
            )
        return self._epsilon(after), self._epsilon(_local(after)) if event.shares else None

    def check_repeat(self, run: str, number: int, planned: int | None = None) -> None:
        """BudgetError where a round of a secure sum was repeated as often as this site or its plan allows.

        The hold is no such bound: it counts steps of all rounds, and a release refuses what passes the plan.
        """
        failed = f"run {run!r}: this round was charged {number} times for secure sums that failed, and"
        if number > self.policy.max_repeats:
            raise BudgetError(
                f"{failed} this site allows max_repeats = {self.policy.max_repeats}: abandon the run"
            )
        if planned is not None and number > planned:
            raise BudgetError(
                f"{failed} the study has privacy.max_repeats = {planned}: abandon the run, and start a new "
                "one with more repeats"
            )

    def open_run(self, run: str) -> Run:
        """The hold of a run. BudgetError where there is none, or where it was closed."""
        known = self.books.runs.get(run)
        if known is None or known.closed:
            state = "has no hold at this site" if known is None else "is closed at this site"
            raise BudgetError(f"run {run!r} {state}: have the run approved under a new name first")
        return known

    def _counted(self, steps: Counter[Mechanism]) -> float:
        """ε as the cap counts it."""
        return self._epsilon(steps if self.policy.trust_secure_sum else _local(steps))

    def _beyond_local(self, steps: Counter[Mechanism]) -> bool:
        """Whether a trusting site would pass its second cap. Accounts without secure sums have one cap."""
        if not self.policy.trust_secure_sum or not any(event.shares for event in to_events(steps)):
            return False
        return self._epsilon(_local(steps)) > self.policy.local_epsilon

    def _of_what(self, steps: Counter[Mechanism]) -> str:
        if self.policy.trust_secure_sum or not any(event.shares for event in to_events(steps)):
            return ""
        return " (without trust in secure sums, as this site counts)"

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
    plain = Event(float(event.noise_multiplier), float(event.sampling_rate), int(event.steps))
    return plain if not event.shares else _check_sum(event, plain)


def _check_sum(event: Event, plain: Event) -> Event:
    if event.shares < 1 or event.dimension < 1:
        raise ConfigError("shares", event.shares, "a sum of 1 or more shares in 1 or more numbers")
    if not event.infinite and not 0.5 <= event.share_deviation < math.inf:
        raise ConfigError("share_deviation", event.share_deviation, "half a step of the grid or more")
    kind = {"shares": int(event.shares), "dimension": int(event.dimension)}
    return replace(plain, share_deviation=float(event.share_deviation), **kind)


def _local(steps: Counter[Mechanism]) -> Counter[Mechanism]:
    """The same steps where no share of noise but the own one is trusted."""
    return count_steps(event.local for event in to_events(steps))


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ConfigError("delta", delta, "a number between 0 and 1")


def _show(value: float) -> str:
    return "infinite" if math.isinf(value) else f"{value:.4g}"
