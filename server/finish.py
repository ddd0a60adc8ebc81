"""What a deployed run leaves, made of what the sites released alone: no real image is here to be looked at.

    metrics.json  samples.png  curves.png  release/

A simulation writes the same with its own sites' figures beside: it takes the parts from here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from medgan_core.config import Study
from medgan_core.data.source import Card
from medgan_core.gan.task import GanTask
from medgan_core.gan.tasks import make_task
from medgan_core.messages import AccountName, Arrays, Phase, Receipt, float_to_json
from medgan_core.privacy.accounting import epsilon
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.record import RunFolder, write_atomically, write_json
from medgan_core.release.bundle import build_release
from medgan_core.release.pictures import curves, sample_grid
from medgan_core.release.spending import account_epsilon, release_epsilon, release_local_epsilon
from medgan_core.seeds import Seeds
from medgan_core.tensors import load
from server.state import FederationState, draw, noisy_proportions

SCORES = ("accuracy", "balanced_accuracy", "auc")
_ENTRY = ("round", "phase", "sites")
_ACCOUNTS: tuple[AccountName, ...] = ("training", "held_out")


def finish(
    study: Study,
    run: RunFolder,
    card: Card,
    plan: PrivacyPlan,
    state: FederationState,
    keys: Mapping[str, str],
) -> None:
    """Write everything that a finished run leaves; the release last, so that it marks the end.

    `keys` are the Ed25519 public keys of the sites in hex, with which their receipts are signed.
    """
    task = make_task(study, card.image_shape, card.classes)
    images, labels = synthetic(study, task, state.groups["release"])
    spent = spent_epsilon(plan, state.receipts)
    metrics = released_metrics(state)
    told = _told(study, card, plan, state.receipts, spent)
    write_json(run.path / "metrics.json", {**told, **metrics})
    samples = sample_grid(
        images,
        labels,
        card.classes,
        real=None,
        private=study.private,
        epsilon=spent,
        delta=plan.delta,
        unit=card.unit,
        title=study.name,
    )
    write_atomically(run.path / "samples.png", samples)
    curve = curves(state.history, epsilon_by_round(study, state.receipts), private=study.private)
    write_atomically(run.path / "curves.png", curve)
    shares = noisy_proportions(study, state.groups["statistics"]["embedding"])
    weights, receipts = state.groups["release"], state.receipts
    build_release(run.release, study, card, plan, weights, receipts, shares, metrics, keys)


def synthetic(study: Study, task: GanTask, weights: Arrays) -> tuple[torch.Tensor, torch.Tensor]:
    """The images by which a generator is judged and shown, with their labels: the same at every call."""
    generator = task.make_generator()
    load(generator, weights)
    return draw(
        task, generator.eval(), study.evaluation.synthetic_images, Seeds(study.seed).child("evaluation")
    )


def spent_epsilon(plan: PrivacyPlan, receipts: Sequence[Receipt]) -> float:
    """ε of the run. A secure sum that was repeated counts as often as it was charged, by the receipts."""
    return plan.epsilon() if plan.rules is None else release_epsilon(receipts, plan)


def released_metrics(state: FederationState) -> dict[str, Any]:
    """The noisy scores that the sites released, and the gate's verdict where there was one."""
    scores = {name: float_to_json(state.history[-1][name]) for name in SCORES}
    gate = verdict(state)
    return {"released": scores} | ({"gate": gate} if gate else {})


def verdict(state: FederationState) -> dict[str, Any]:
    """The gate's figures, and the refined generator's accuracy whether it was kept or not; empty without one.

    Where it was not kept, that is the noisy accuracy of the other generator and the noisy gain over it.
    """
    entry = next((entry for entry in state.history if entry["phase"] == Phase.GATE), None)
    if entry is None:
        return {}
    gate = {name: value for name, value in entry.items() if name not in _ENTRY}
    missed = 0.0 if gate["kept"] == "refined" else gate["gain"]
    return gate | {"refined_accuracy": float_to_json(state.history[-1]["accuracy"] + missed)}


def epsilon_by_round(study: Study, receipts: Sequence[Receipt]) -> list[tuple[int, Mapping[str, float]]]:
    """ε of each site's training account of this run after each round."""
    charged = [receipt for receipt in receipts if receipt.account == "training"]
    names = sorted({receipt.site for receipt in receipts})

    def after(number: int, name: str) -> float:
        events = [r.event for r in charged if r.site == name and r.round <= number]
        return epsilon(events, study.privacy.delta)

    rounds = sorted({receipt.round for receipt in charged})
    return [(number, {name: after(number, name) for name in names}) for number in rounds]


def _told(
    study: Study, card: Card, plan: PrivacyPlan, receipts: Sequence[Receipt], spent: float
) -> dict[str, Any]:
    local = release_local_epsilon(receipts, plan)
    return {
        **promise(study, plan, card, spent, local),
        "sites": [_by_site(plan, receipts, site) for site in sorted({r.site for r in receipts})],
    }


def promise(study: Study, plan: PrivacyPlan, card: Card, spent: float, local: float | None) -> dict[str, Any]:
    """The first lines of metrics.json: what a run promises to whom, and at which ε."""
    return {
        "study": study.name,
        "privacy": "dp" if study.private else "NOT PRIVATE",
        "unit": card.unit,
        "epsilon": float_to_json(spent),
        **({} if local is None else {"local_epsilon": float_to_json(local)}),
        "delta": plan.delta,
    }


def _by_site(plan: PrivacyPlan, receipts: Sequence[Receipt], site: str) -> dict[str, Any]:
    """ε of the run on both accounts of a site, and of its larger account as its last receipts say."""
    spent: dict[str, Any] = {
        name: float_to_json(account_epsilon(receipts, plan, site, name)) for name in _ACCOUNTS
    }
    whole = max(receipt.spent for receipt in receipts if receipt.site == site)
    return {"site": site, **spent, "account": float_to_json(whole)}
