"""What a deployed run leaves, made of what the sites released alone: no real image is here to be looked at.

    metrics.json  samples.png  curves.png  report.html  release/

A simulation writes the same with its own sites' figures beside: it takes the parts from here.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medgan_core.config import Study
from medgan_core.data.source import Card
from medgan_core.gan.task import SynthesisTask
from medgan_core.gan.tasks import make_task
from medgan_core.messages import AccountName, Arrays, Phase, Receipt, float_to_json
from medgan_core.privacy.grid import total_deviation
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.record import RunFolder, write_json
from medgan_core.release.bundle import build_release
from medgan_core.release.pictures import Labelled
from medgan_core.release.spending import account_epsilon, release_local_epsilon
from medgan_core.seeds import Seeds
from medgan_core.tensors import load
from server.pages import Outcome, write_pages
from server.state import FederationState, draw, noisy_proportions

_ENTRY = ("round", "phase", "sites")
_ACCOUNTS: tuple[AccountName, ...] = ("training", "held_out")


def finish(
    study: Study,
    run: RunFolder,
    card: Card,
    plan: PrivacyPlan,
    state: FederationState,
    keys: Mapping[str, str],
    signing_key: bytes | None = None,
) -> None:
    """Write everything that a finished run leaves; the release last, so that it marks the end.

    `keys` are the Ed25519 public keys of the sites in hex, with which their receipts are signed;
    `signing_key` is the coordinator's private one, which signs the release.
    """
    task = make_task(study, card.image_shape, card.classes)
    outcome = Outcome(
        study,
        run,
        card,
        plan,
        state,
        synthetic(study, task, state.groups["release"]) if isinstance(task, SynthesisTask) else None,
        released_metrics(state),
        [_by_site(plan, state.receipts, site) for site in sorted({r.site for r in state.receipts})],
        seconds=time.time() - (run.path / "study.toml").stat().st_mtime,
    )
    write_outcome(outcome, keys, signing_key)


def write_outcome(
    outcome: Outcome, keys: Mapping[str, str] | None = None, signing_key: bytes | None = None
) -> None:
    """Write all that is told of a finished run; the release last, so that it marks the end."""
    study, state = outcome.study, outcome.state
    tried = attacked(study, outcome.plan, state)
    metrics = {**outcome.metrics, **({"attacks": tried} if tried else {})}
    sites = [_to_json(site) for site in outcome.by_site]
    write_json(outcome.run.path / "metrics.json", {**_promise(outcome), **metrics, "sites": sites})
    write_pages(outcome)
    embedding = state.groups["statistics"].get("embedding")  # a task without a query knows no shares
    shares = [] if embedding is None else noisy_proportions(study, embedding)
    build_release(
        outcome.run.release,
        study,
        outcome.card,
        outcome.plan,
        state.groups["release"],
        state.receipts,
        shares,
        metrics,
        keys,
        signing_key,
    )


def synthetic(study: Study, task: SynthesisTask, weights: Arrays) -> Labelled:
    """The images by which a generator is judged and shown, with their labels: the same at every call."""
    generator = task.make_generator()
    load(generator, weights)
    return draw(
        task, generator.eval(), study.evaluation.synthetic_images, Seeds(study.seed).child("evaluation")
    )


def released_metrics(state: FederationState) -> dict[str, Any]:
    """The noisy scores that the sites released and what they were read from; the gate's verdict if any.

    "histogram" [classes, classes, bins] is the noisy sum over sites, for whoever reads it by class.
    """
    judged = _entry(state, Phase.EVALUATE)
    scores = {name: float_to_json(value) for name, value in judged.items() if name not in _ENTRY}
    gate, histogram = verdict(state), state.groups.get("statistics", {}).get("histogram")
    told = {"released": scores} | ({"gate": gate} if gate else {})
    return told if histogram is None else told | {"histogram": np.round(histogram, 3).tolist()}


def verdict(state: FederationState) -> dict[str, Any]:
    """The gate's figures, and the refined generator's accuracy whether it was kept or not; empty without one.

    Where it was not kept, that is the noisy accuracy of the other generator and the noisy gain over it.
    """
    entry = _entry(state, Phase.GATE)
    if not entry:
        return {}
    gate = {name: value for name, value in entry.items() if name not in _ENTRY}
    missed = 0.0 if gate["kept"] == "refined" else gate["gain"]
    return gate | {"refined_accuracy": float_to_json(_entry(state, Phase.EVALUATE)["accuracy"] + missed)}


def attacked(study: Study, plan: PrivacyPlan, state: FederationState) -> dict[str, Any]:
    """Noisy cells of the attacks, [attacks, 2, bins] of members and of held-out patients, and their noise.

    From them anybody can reckon how well the attacks did; empty where no attack was asked for.
    """
    if not study.attacks:
        return {}
    told: dict[str, Any] = {"names": list(study.attacks)}
    for name, phase in (("members", Phase.ATTACK), ("held_out", Phase.CONTROL)):
        deviation = total_deviation(plan.event(phase), len(_entry(state, phase)["sites"]))
        told[name] = state.groups["statistics"][str(phase)].round(3).tolist()
        told[f"noise_{name}"] = deviation
    return told


def _entry(state: FederationState, phase: Phase) -> Mapping[str, Any]:
    """What is remembered of the latest round of a phase; empty where there was none."""
    return next((entry for entry in reversed(state.history) if entry["phase"] == phase), {})


def _promise(outcome: Outcome) -> dict[str, Any]:
    """The first lines of metrics.json: what a run promises to whom, and at which ε."""
    local = release_local_epsilon(outcome.state.receipts, outcome.plan)
    return {
        "study": outcome.study.name,
        "privacy": "dp" if outcome.study.private else "NOT PRIVATE",
        "unit": outcome.card.unit,
        "epsilon": float_to_json(outcome.epsilon),
        **({} if local is None else {"local_epsilon": float_to_json(local)}),
        "delta": outcome.plan.delta,
    }


def _to_json(site: Mapping[str, Any]) -> dict[str, Any]:
    return {name: float_to_json(value) if isinstance(value, float) else value for name, value in site.items()}


def _by_site(plan: PrivacyPlan, receipts: Sequence[Receipt], site: str) -> dict[str, Any]:
    """ε of the run on both accounts of a site, and of its larger account as its last receipts say.

    Under secure sum "local" is ε of the run without trust. A site's cap is not known here.
    """
    spent: dict[str, float] = {name: account_epsilon(receipts, plan, site, name) for name in _ACCOUNTS}
    spent["account"] = max(receipt.spent for receipt in receipts if receipt.site == site)
    if plan.rules is not None:
        spent["local"] = max(account_epsilon(receipts, plan, site, name, local=True) for name in _ACCOUNTS)
    return {"site": site, **spent}
