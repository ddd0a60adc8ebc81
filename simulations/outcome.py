"""What a finished run leaves: metrics, pictures, the page, the sites' own reports, and the release."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from client.site import SiteWorker
from medgan_core.config import Study
from medgan_core.data.source import Card, Site
from medgan_core.evaluate.report import site_report, trained_scores
from medgan_core.gan.task import GanTask
from medgan_core.messages import Receipt, float_to_json
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.record import RunFolder, environment, write_atomically, write_json
from medgan_core.release.bundle import build_release
from medgan_core.release.card import plain
from medgan_core.release.pictures import curves, sample_grid
from medgan_core.release.spending import account_epsilon, release_local_epsilon
from medgan_core.seeds import Seeds
from server.finish import epsilon_by_round, promise, released_metrics, spent_epsilon, synthetic
from server.state import CANDIDATES, FederationState, noisy_proportions
from simulations.hospitals import pooled
from simulations.report import render_report

_GRID_COLUMNS = 10


def finish(
    study: Study,
    run: RunFolder,
    sites: Sequence[Site],
    workers: Sequence[SiteWorker],
    state: FederationState,
    *,
    seconds: float,
) -> None:
    """Write everything that a finished run leaves. The release is written last, so that it marks the end."""
    plan, card = workers[0].plan, sites[0].training.card
    task = workers[0].task
    images, labels = synthetic(study, task, state.groups["release"])
    metrics = _metrics(study, run, sites, task, state, images, labels)
    by_site = [_spent(worker, state.receipts) for worker in workers]
    spent = spent_epsilon(plan, state.receipts)
    local = release_local_epsilon(state.receipts, plan)
    write_json(run.path / "metrics.json", _told(study, plan, card, spent, local, metrics, by_site))
    samples = _samples(study, plan, sites, images, labels, spent)
    curve = curves(state.history, epsilon_by_round(study, state.receipts), private=study.private)
    write_atomically(run.path / "samples.png", samples)
    write_atomically(run.path / "curves.png", curve)
    page = render_report(
        study=study,
        card=card,
        plan=plan,
        run=run.name,
        epsilon=spent,
        by_site=by_site,
        metrics=metrics,
        history=state.history,
        samples_png=samples,
        curves_png=curve,
        duration_seconds=seconds,
        environment=environment(),
    )
    write_atomically(run.path / "report.html", page.encode())
    shares = noisy_proportions(study, state.groups["statistics"]["embedding"])
    build_release(run.release, study, card, plan, state.groups["release"], state.receipts, shares, metrics)


def _samples(
    study: Study,
    plan: PrivacyPlan,
    sites: Sequence[Site],
    images: torch.Tensor,
    labels: torch.Tensor,
    spent: float,
) -> bytes:
    """The labelled grid as PNG, with real images beside only where they are public."""
    card = sites[0].training.card
    return sample_grid(
        images,
        labels,
        card.classes,
        real=_real_examples(sites) if card.public else None,
        private=study.private,
        epsilon=spent,
        delta=plan.delta,
        unit=card.unit,
        title=study.name,
    )


def _metrics(
    study: Study,
    run: RunFolder,
    sites: Sequence[Site],
    task: GanTask,
    state: FederationState,
    images: torch.Tensor,
    labels: torch.Tensor,
) -> dict[str, Any]:
    """What may leave the sites: the noisy scores and the gate's verdict, the rest where images are public."""
    released = released_metrics(state)
    public = _judge(study, run, sites, sites[0].training.card, images, labels)
    if public is None:
        return released
    if gate := released.get("gate"):
        reached = {gate["kept"]: public["train_on_synthetic"]}
        public["candidates"] = reached | _passed_over(study, sites, task, state, gate["kept"])
    return {**released, "public": public}


def _passed_over(
    study: Study, sites: Sequence[Site], task: GanTask, state: FederationState, kept: str
) -> dict[str, dict[str, Any]]:
    """What the generator that the gate did not keep reaches on public images."""
    [other] = set(CANDIDATES) - {kept}
    _, held_out = pooled(sites, sites[0].training.card)
    images, labels = synthetic(study, task, state.groups[f"release_{other}"])
    reached = trained_scores(images, labels, held_out, seed=Seeds(study.seed).child("report").integer())
    return {other: plain(asdict(reached))}


def _told(
    study: Study,
    plan: PrivacyPlan,
    card: Card,
    spent: float,
    local: float | None,
    metrics: Mapping[str, Any],
    by_site: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The content of metrics.json."""
    return {
        **promise(study, plan, card, spent, local),
        **metrics,
        "sites": [
            {k: float_to_json(v) if isinstance(v, float) else v for k, v in s.items()} for s in by_site
        ],
    }


def _judge(
    study: Study,
    run: RunFolder,
    sites: Sequence[Site],
    card: Card,
    images: torch.Tensor,
    labels: torch.Tensor,
) -> dict[str, Any] | None:
    """Figures on real images: of all sites together where they are public, else each site's, kept there."""
    if not study.evaluation.reports:
        return None
    seed = Seeds(study.seed).child("report").integer()
    if card.public:
        training, held_out = pooled(sites, card)
        return site_report(training, held_out, images, labels, seed=seed).to_json()
    for site in sites:
        report = site_report(site.training, site.held_out, images, labels, seed=seed)
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
    images = torch.cat([site.held_out.images for site in sites])
    labels = torch.cat([site.held_out.labels for site in sites])
    chosen = torch.cat([(labels == label).nonzero()[:_GRID_COLUMNS, 0] for label in labels.unique()])
    return images[chosen], labels[chosen]
