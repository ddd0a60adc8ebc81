"""A tiny federation for tests: three sites whose answers are made up without any data."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medgan_core.codec import flatten, unflatten
from medgan_core.config import Study, parse_study
from medgan_core.gan.task import SynthesisTask, synthesis_of
from medgan_core.gan.tasks import make_task
from medgan_core.messages import METRICS, Groups, Receipt, Request, Update
from medgan_core.privacy.plan import PrivacyPlan
from server.rounds import Refusal, accept
from server.state import FederationState, expected_groups, initial_state, next_request, server_step

SITES = ("site-1", "site-2", "site-3")
CLASSES = ("normal", "pneumonia")
TINY: dict[str, Any] = {
    "name": "tiny",
    "strategy": "refine",
    "rounds": 2,
    "data": {"kind": "npz", "path": "x.npz", "classes": list(CLASSES)},
    "sites": {"count": 3},
    "privacy": {"mode": "off"},
    "one_shot": {"frequencies": 8, "iterations": 1, "batch": 4},
    "training": {
        "latent_size": 4,
        "precision": "float32",
        "generator_width": 4,
        "discriminator_width": 4,
        "discriminator_steps": 1,
        "batch": 4,
    },
    "evaluation": {"synthetic_images": 16, "gate": False, "attack": False},
}


def tiny_study(**changes: Any) -> Study:
    """The tiny study with dotted keys, written with two underscores."""
    changed = {key.replace("__", "."): value for key, value in changes.items()}
    return parse_study(unflatten(flatten(TINY) | changed))


@dataclass(frozen=True)
class Federation:
    """What a coordinator knows before the first round."""

    study: Study
    task: SynthesisTask
    plan: PrivacyPlan
    state: FederationState

    def request(self, state: FederationState | None = None) -> Request:
        request = next_request(self.study, self.plan, state or self.state)
        assert request is not None
        return request

    def answers(self, state: FederationState) -> list[Update]:
        return [answer(self, state, site, seed) for seed, site in enumerate(SITES)]

    def accept(
        self, answers: Iterable[Update | Refusal], state: FederationState | None = None
    ) -> tuple[list[str], list[str]]:
        """The names of the accepted sites and the reasons of the refusals."""
        at = state or self.state
        updates, refusals = accept(self.study, self.task, self.plan, at, self.request(at), answers)
        return [update.site for update in updates], [refusal.reason for refusal in refusals]

    def after(self, rounds: int) -> FederationState:
        """The state after this many rounds in which every site answered."""
        state = self.state
        for _ in range(rounds):
            state = server_step(self.study, self.task, state, self.answers(state))
        return state

    def exchange(self, follow: Callable[[], FederationState]) -> Callable[[Request], list[Update]]:
        """Sites that answer whatever is asked; `follow` gives the state that the request was made from."""
        return lambda request: self.answers(follow())


def federation(**changes: Any) -> Federation:
    study = tiny_study(**changes)
    task = synthesis_of(make_task(study, (1, 28, 28), CLASSES))
    plan = PrivacyPlan.of(study, "patient")
    return Federation(study, task, plan, initial_state(study, task, "run-1", SITES))


def answer(of: Federation, state: FederationState, site: str, seed: int = 0) -> Update:
    """An acceptable update with small random numbers of the right names, shapes and dtypes."""
    random, request = np.random.default_rng(seed), of.request(state)
    groups = {
        group: {
            name: (0.1 * random.normal(size=like.shape)).astype(like.dtype) for name, like in arrays.items()
        }
        for group, arrays in expected_groups(of.study, of.task, state).items()
    }
    metrics = dict.fromkeys(METRICS[request.phase], 0.5)
    return sealed(Update(site, request.round, request.phase, groups, metrics, receipt(of, request, site)))


def receipt(of: Federation, request: Request, site: str) -> Receipt:
    return Receipt(
        site=site,
        ledger=f"ledger-{site}",
        run=request.run,
        round=request.round,
        phase=request.phase,
        request_digest=request.digest(),
        account=of.plan.account(request.phase),
        event=of.plan.event(request.phase),
        spent=float("inf"),
        delta=1e-5,
        sequence=1,
        head="h",
    )


def sealed(update: Update) -> Update:
    """The update with a receipt for its present content."""
    return update.sealed(replace(update.receipt, update_digest=update.digest()))


def with_groups(update: Update, groups: Groups) -> Update:
    return sealed(replace(update, groups=groups))
