"""What a finished run leaves: metrics, pictures, the page, the sites' own reports, and the release."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from client.site import SiteWorker
from medgan_core.config import Study
from medgan_core.data.source import Site
from medgan_core.device import CPU
from medgan_core.evaluate.augmentation import gains
from medgan_core.evaluate.report import site_report, trained_scores
from medgan_core.gan.task import GanTask, PatientTask, SynthesisTask, synthesis_of
from medgan_core.messages import Receipt
from medgan_core.privacy.sum_keys import verify_key_of
from medgan_core.record import RunFolder, write_atomically, write_json
from medgan_core.release.card import plain
from medgan_core.release.pictures import Labelled
from medgan_core.release.spending import account_epsilon
from medgan_core.release.trust import TrustedKey, keys_text
from medgan_core.seeds import Seeds
from server.finish import released_metrics, synthetic, write_outcome
from server.pages import Outcome
from server.state import CANDIDATES, FederationState
from simulations.explaining import FEW, explained
from simulations.hospitals import pooled, release_key, signing_key
from simulations.outputs import exact_scores, panels

_GRID_COLUMNS = 10
_KEYS = "trust.keys"


def finish(
    study: Study,
    run: RunFolder,
    sites: Sequence[Site],
    workers: Sequence[SiteWorker],
    state: FederationState,
    *,
    seconds: float,
    device: torch.device = CPU,
) -> None:
    """Write everything that a finished run leaves. The release is written last, so that it marks the end.

    Classifiers are trained on `device`.
    """
    task, card, weights = workers[0].task, sites[0].training.card, state.groups["release"]
    drawn = isinstance(task, SynthesisTask)
    made = synthetic(study, task, weights) if isinstance(task, SynthesisTask) else None
    outcome = Outcome(
        study,
        run,
        card,
        workers[0].plan,
        state,
        made,
        _metrics(study, run, sites, task, state, made, device),
        [_spent(worker, state.receipts) for worker in workers],
        seconds,
        real=_real_examples(sites) if card.public and drawn else None,
        panels=panels(task, weights, sites) if card.public and isinstance(task, PatientTask) else None,
        simulated=True,
        maps=explained(study, sites, task, weights),
    )
    keys = {site.name: verify_key_of(signing_key(run, site.name)).hex() for site in sites}
    own = release_key(run)
    trusted = TrustedKey("coordinator", "simulation", verify_key_of(own).hex())
    write_atomically(run.path / _KEYS, keys_text(keys, trusted).encode())
    write_outcome(outcome, keys, own)


def _metrics(
    study: Study,
    run: RunFolder,
    sites: Sequence[Site],
    task: GanTask,
    state: FederationState,
    made: Labelled | None,
    device: torch.device,
) -> dict[str, Any]:
    """What may leave the sites: the noisy scores and the gate's verdict, the rest where images are public."""
    released = released_metrics(state)
    if isinstance(task, PatientTask):
        public = exact_scores(study, run, sites, task, state.groups["release"])
    else:
        public = None if made is None else _judge(study, run, sites, made, device)
    if public is None:
        return released
    if study.task == "augmentation" and made is not None:
        gained = gains(*pooled(sites, sites[0].training.card), *made, share=FEW)
        public["augmentation"] = {f"{FEW:.0%}": plain({name: asdict(gain) for name, gain in gained.items()})}
    if gate := released.get("gate"):
        reached = {gate["kept"]: public["train_on_synthetic"]}
        public["candidates"] = reached | _passed_over(
            study, sites, synthesis_of(task), state, gate["kept"], device
        )
    return {**released, "public": public}


def _passed_over(
    study: Study,
    sites: Sequence[Site],
    task: SynthesisTask,
    state: FederationState,
    kept: str,
    device: torch.device,
) -> dict[str, dict[str, Any]]:
    """What the generator that the gate did not keep reaches on public images."""
    [other] = set(CANDIDATES) - {kept}
    _, held_out = pooled(sites, sites[0].training.card)
    images, labels = synthetic(study, task, state.groups[f"release_{other}"])
    seed = Seeds(study.seed).child("report").integer()
    reached = trained_scores(images, labels, held_out, seed=seed, device=device)
    return {other: plain(asdict(reached))}


def _judge(
    study: Study, run: RunFolder, sites: Sequence[Site], made: Labelled, device: torch.device
) -> dict[str, Any] | None:
    """Figures on real images: of all sites together where they are public, else each site's, kept there."""
    if not study.evaluation.reports:
        return None
    seed, card = Seeds(study.seed).child("report").integer(), sites[0].training.card
    report_of = partial(site_report, seed=seed, task=study.task, device=device)
    if card.public:
        return report_of(*pooled(sites, card), *made).to_json()
    for site in sites:
        report = report_of(site.training, site.held_out, *made)
        write_json(run.site(site.name) / "report.json", report.to_json())
    return None


def _spent(worker: SiteWorker, receipts: Sequence[Receipt]) -> dict[str, Any]:
    """ε of a site's run by account, of its larger account with earlier runs, and the site's cap.

    Under secure sum the account is told as the cap counts it, and "local" is ε of the run without trust.
    """
    plan, site, policy = worker.plan, worker.site.name, worker.ledger.policy
    local = plan.rules is not None and not policy.trust_secure_sum
    whole = max(worker.ledger.spent(account, local=local) for account in worker.accounts.values())
    told: dict[str, float] = {name: account_epsilon(receipts, plan, site, name) for name in worker.accounts}
    spent: dict[str, Any] = {"site": site, **told, "account": whole, "cap": policy.epsilon_cap}
    if plan.rules is None:
        return spent
    alone = [account_epsilon(receipts, plan, site, name, local=True) for name in worker.accounts]
    return spent | {"local": max(alone), "local_cap": policy.local_epsilon}


def _real_examples(sites: Sequence[Site]) -> tuple[torch.Tensor, torch.Tensor]:
    """A few real images of every class; called only where they are public."""
    held_out = pooled(sites, sites[0].training.card)[1]
    images, labels = held_out.images, held_out.labels
    most = len(images) if held_out.card.channels else _GRID_COLUMNS
    chosen = torch.cat([(labels == label).nonzero()[:most, 0] for label in labels.unique()])
    return images[chosen], labels[chosen]
