"""An audit: first against mutants, so that it is known what it can see; then the mechanism as it is."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from medgan_core.errors import ConfigError
from medgan_core.privacy.audit import checks
from medgan_core.privacy.audit.checks import Check, Outcome, Verdict
from medgan_core.privacy.audit.mechanism import Mechanism
from medgan_core.privacy.audit.mutants import MUTANTS, Mutant

EXIT_CODES: dict[Verdict, int] = {"passed": 0, "failed": 1, "inconclusive": 4}
"""Of the commands. 2 and 3 are those of wrong input and of a refusal."""

_OF_STEPS: tuple[Check, ...] = (
    checks.noise_and_canaries,
    checks.participation,
    checks.clipping,
    checks.fakes,
)
_OF_ANY: tuple[Check, ...] = (checks.queries, checks.split, checks.replays, checks.rounds)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trial:
    """A mutant, and the check that killed it: "" for none."""

    mutant: str
    killed_by: str


@dataclass(frozen=True)
class AuditReport:
    """What an audit saw. `trials` are of its mutants, `outcomes` of the mechanism itself."""

    trials: tuple[Trial, ...]
    outcomes: tuple[Outcome, ...]

    @property
    def verdict(self) -> Verdict:
        """Failed if a check did; inconclusive if one was, or a mutant survived: then passing means little."""
        verdicts = {outcome.verdict for outcome in self.outcomes}
        if "failed" in verdicts:
            return "failed"
        survived = any(not trial.killed_by for trial in self.trials)
        return "inconclusive" if survived or "inconclusive" in verdicts else "passed"

    def to_json(self) -> dict[str, Any]:
        """For a machine. Infinity is the string "inf"."""
        outcomes = [asdict(outcome) for outcome in self.outcomes]
        for outcome in outcomes:
            outcome["figures"] = {k: v if math.isfinite(v) else "inf" for k, v in outcome["figures"].items()}
        mutants = {trial.mutant: trial.killed_by or None for trial in self.trials}
        return {"verdict": self.verdict, "mutants": mutants, "checks": outcomes}


def audit(
    mechanism: Mechanism,
    more: Sequence[Outcome] = (),
    say: Say = lambda line: None,
    mutants: Sequence[Mutant] = MUTANTS,
) -> AuditReport:
    """Kill the mutants, then look at the mechanism; `more` are outcomes on a site's own books.

    Takes about a minute for a study of 28 pixels a side. ConfigError for a plan without privacy.
    """
    if not mechanism.plan.private:
        raise ConfigError("privacy.mode", "off", "dp: there is no noise to audit")
    say("first the mutants: does the audit notice what is wrong?")
    trials = self_test(mechanism, say, mutants)
    say("now the mechanism as it is")
    return AuditReport(trials, (*_outcomes(mechanism, say), *more))


def self_test(
    mechanism: Mechanism, say: Say = lambda line: None, mutants: Sequence[Mutant] = MUTANTS
) -> tuple[Trial, ...]:
    """Which check kills which mutant. Those of a site's noisy steps are tried where the plan has such."""
    return tuple(
        Trial(mutant.name, killed_by(mutant, mechanism, say))
        for mutant in mutants
        if mechanism.trains or not mutant.of_steps
    )


def killed_by(mutant: Mutant, mechanism: Mechanism, say: Say = lambda line: None) -> str:
    """The first check that fails for a mutant; "" where none does."""
    wrong = mutant.make(mechanism)
    for check in _checks(mechanism):
        for outcome in check(wrong):
            if outcome.verdict == "failed":
                say(f"killed: {mutant.name}, by {outcome.name}")
                return outcome.name
    say(f"SURVIVED: {mutant.name}")
    return ""


def _checks(mechanism: Mechanism) -> tuple[Check, ...]:
    return (*(_OF_STEPS if mechanism.trains else ()), *_OF_ANY)


def _outcomes(mechanism: Mechanism, say: Say) -> tuple[Outcome, ...]:
    found: list[Outcome] = []
    for check in _checks(mechanism):
        found += checks.measured(mechanism) if check is checks.noise_and_canaries else check(mechanism)
    if mechanism.trains:
        say("one run of canaries, over all steps of the study")
        found += checks.one_run(mechanism)
    elif mechanism.plan.rounds:
        text = "steps are summed securely: canaries do not reach them, the watch over noise does"
        found.append(Outcome("canaries", "inconclusive", text))
    return tuple(found)
