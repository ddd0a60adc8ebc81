"""The words of a card: Markdown that also reads well as plain text."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from medgan_core.messages import Phase
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.release.card import ReleaseCard, summed_queries
from medgan_core.release.check.words import check_words
from medgan_core.release.front_matter import front_matter
from medgan_core.release.privacy_facts import privacy_facts

_BANNER = (
    "> **NOT PRIVATE** – this generator was trained without differential privacy. "
    "It may reproduce images of real patients. Do not let it out."
)
_CELLS = frozenset({"histogram", "attacks"})
"""Metrics that are for machines: the noisy cells that figures are read from."""
_TITLES = {
    "segmentation": "Network that segments images",
    "restoration": "Network that restores images",
    "translation": "Network that translates images into another modality",
    "anomaly": "Network that finds anomalies in images",
}


def markdown(card: ReleaseCard) -> str:
    """The whole card as card.md holds it: what model hubs read of it, and the words."""
    return f"{front_matter(card)}\n{words(card)}"


def words(card: ReleaseCard) -> str:
    """The card for a person."""
    parts = [
        *([] if card.private else [_BANNER]),
        f"# {_TITLES.get(card.task, 'Generator of synthetic images')}: {_cell(card.study)}",
        _summary(card),
        *check_words(card),
        "## Whose data\n\n" + _data(card),
        "## What is promised\n\n" + _promise(card),
        "## What each site spent\n\n" + _spent(card),
        "## How the noise was made\n\n" + _mechanism(card),
        "## By NIST SP 800-226\n\n" + _table(privacy_facts(card)),
        "## How good it is\n\n" + _metrics(card),
        "## Intended use\n\n" + _bullets(card.intended_use),
        "## Forbidden use\n\n" + _bullets(card.forbidden_use),
        "## What is not protected\n\n" + _bullets(card.not_protected),
        "## Until when, and whom to ask\n\n" + _validity(card),
        "## Where it comes from\n\n" + _provenance(card),
    ]
    return "\n\n".join(parts) + "\n"


def _summary(card: ReleaseCard) -> str:
    unit = f"unit: {_unit(card)}"
    if not card.private:
        return f"{card.privacy}: ε = ∞; {unit}."
    trust = "" if card.local_epsilon is None else f" (without trust {_figure(card.local_epsilon)})"
    return f"Differentially private: ε = {_figure(card.epsilon)}{trust} at δ = {card.delta:g}; {unit}."


def _unit(card: ReleaseCard) -> str:
    if card.unit == "image":
        return "image – protects single images, not patients"
    return "patient – protects each patient with all images"


def _data(card: ReleaseCard) -> str:
    data = card.data
    channels, height, width = data.image_shape
    colour = "grey" if channels == 1 else f"{channels} channels"
    rows = {
        "data set": data.name,
        "modality": data.modality,
        "source": data.source or "not stated",
        "licence": data.licence or "not stated",
        "real images declared public": "yes" if data.public else "no",
        "classes": ", ".join(data.classes),
        "images": f"{height} × {width} pixels, {colour}",
        "sites": ", ".join(site.site for site in card.sites),
    }
    for name, share in zip(data.classes, card.proportions, strict=False):
        rows[f"share of {name} (noisy)"] = f"{share:.3f}"
    return _table(rows)


def _promise(card: ReleaseCard) -> str:
    most = card.plan.max_sites_per_patient
    places = "one site" if most == 1 else f"{most} sites"
    rows = {
        "privacy": card.privacy,
        "unit": _unit(card),
        "neighbouring data sets": f"{card.neighbours} one {card.unit}",
        "ε of the release": f"{_figure(card.epsilon)}, the largest of the sites",
        **_local(card),
        "δ": f"{card.delta:g}",
        "assumption": f"a patient counts at most at {places}; ε is composed for {most}",
        "accountant": card.accountant,
    }
    return f"{_table(rows)}\n\n{card.trust_model}"


def _local(card: ReleaseCard) -> dict[str, str]:
    rules = card.plan.rules
    if rules is None or card.local_epsilon is None:
        return {}
    return {
        "ε without trust in the secure sum": f"{_figure(card.local_epsilon)}, the largest of the sites",
        "sites of a secure sum": f"{rules.sites}, of which {rules.drop} may drop out",
        "who may work together": f"the coordinator and at most {rules.collude} of the sites",
        "sites needed to open a sum": f"{rules.threshold}",
    }


def _spent(card: ReleaseCard) -> str:
    local = card.local_epsilon is not None
    head = (
        "| site | ε training | ε held-out patients | ε of this run | δ "
        "| ε of the whole training account | ε of the whole held-out account | δ of the accounts |"
    ) + (" local ε training | local ε held-out patients | local ε of this run |" if local else "")
    lines = [head, "|" + " --- |" * (11 if local else 8)]
    for site in card.sites:
        figures = (site.epsilon_training, site.epsilon_held_out, site.epsilon, site.delta)
        account = (site.account_epsilon_training, site.account_epsilon_held_out, site.account_delta)
        alone = (site.local_epsilon_training, site.local_epsilon_held_out, site.local_epsilon)
        told = [value for value in figures + account + alone if value is not None]
        cells = [_cell(site.site), *(_figure(value) for value in told)]
        lines.append("| " + " | ".join(cells) + " |")
    judging = "Gate and evaluation" if card.plan.gate else "The evaluation"
    note = (
        f"{judging} looked at {card.unit}s that were held out of training; every {card.unit} is in "
        f"one of the two sets, so ε of the run is the larger. The accounts include all earlier "
        f"runs on the same {card.unit}s."
    )
    if local:
        note += (
            " Local ε is what remains where more sites than assumed work together with the coordinator. A "
            "secure sum that had to be repeated counts as often as it was charged."
        )
    return "\n".join(lines) + f"\n\n{note}"


def _mechanism(card: ReleaseCard) -> str:
    plan = card.plan
    rows = {
        "one-shot query, noise multiplier": f"{plan.one_shot_noise_multiplier:g}",
        "training steps, noise multiplier": f"{plan.noise_multiplier:g}",
        **({"gate, noise multiplier": f"{plan.gate_noise_multiplier:g}"} if plan.gate else {}),
        "evaluation, noise multiplier": f"{plan.evaluation_noise_multiplier:g}",
        **(_attack_noise(plan) if plan.attack_size else {}),
        "sampling rate": f"{plan.sampling_rate:g} (Poisson, each {card.unit} by its own coin)",
        "clip norm": f"{plan.clip_norm:g}",
        "nominal batch": f"{plan.nominal_batch:g}",
        "rounds × steps": f"{plan.rounds} × {plan.steps} = {plan.rounds * plan.steps} discriminator steps",
        "images of one patient": f"at most {plan.max_images_per_patient}",
    }
    if plan.rules is not None:
        rows["secure sum"] = (
            f"{summed_queries(plan)}, noise in {plan.rules.shares} or more shares of discrete Gaussians"
        )
        if not plan.summed(Phase.TRAIN):
            rows["secure sum"] += "; training steps with each site's own full noise"
    return _table(rows)


def _attack_noise(plan: PrivacyPlan) -> dict[str, str]:
    return {
        "attack on members, noise multiplier": f"{plan.attack_noise_multiplier:g}",
        "its control, noise multiplier": f"{plan.control_noise_multiplier:g}",
    }


def _metrics(card: ReleaseCard) -> str:
    rows = dict(_flat({name: told for name, told in card.metrics.items() if name not in _CELLS}))
    if not rows:
        return "No figures left the sites."
    note = _gate(card)
    if card.private:
        note += "\n\nWhat was measured on patients whose data are not declared public carries privacy noise."
    return _table(rows) + note


def _gate(card: ReleaseCard) -> str:
    """What the gate chose, and how sure that is, in words."""
    gate = card.metrics.get("gate")
    if not card.plan.gate or not isinstance(gate, Mapping):
        return ""
    figures = {name: float(value) for name, value in gate.items() if name != "kept"}
    kept = "the refined generator" if gate["kept"] == "refined" else "the generator of the one-shot start"
    found = "" if figures["low"] > 0 or figures["high"] < 0 else ", no difference is shown"
    return (
        f"\n\nThe gate kept {kept}. By a query of the {card.unit}s held out, charged to them, the accuracy "
        f"gained by the adversarial rounds is {figures['gain']:+.4f} (95 % from {figures['low']:+.4f} to "
        f"{figures['high']:+.4f}{found}), over a nominal {figures['patients']:g} {card.unit}s; noise alone "
        f"turns the sign of such a gain with a probability of {figures['error_rate']:.2g}."
    )


def _validity(card: ReleaseCard) -> str:
    rows = {
        "to be used until (UTC)": card.expires or "no end was set; ask before you use it after years",
        "contact": card.contact or "not stated: ask whoever gave you the release",
        "licence of the generator": card.licence,
        "recall": "`medgan verify RELEASE --trust KEYS --recalls FILE` tells whether it was recalled",
    }
    return _table(rows)


def _provenance(card: ReleaseCard) -> str:
    versions = card.environment.get("packages", {})
    rows = {
        "study": card.study,
        "run": card.run,
        "task": card.task,
        "created (UTC)": card.created,
        "SHA-256 of the generator": card.generator_sha256,
        "Python": str(card.environment.get("python", "unknown")),
        "packages": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return _table(rows)


def _flat(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(rows: Mapping[str, str]) -> str:
    lines = ["| | |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items())])


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _figure(value: float) -> str:
    return "∞" if value == float("inf") else f"{value:.4g}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").replace("<", "‹").replace(">", "›").split())
