"""The page of a run: one HTML file that a person opens first, with nothing outside of it.

It is given only what may leave the sites. What a figure means is said beside it, and a figure that is missing
or nan is "not assessed", never a blank or a zero.
"""

import json
import shlex
from base64 import b64encode
from collections.abc import Mapping, Sequence
from math import isinf, isnan, nan
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from medgan_core.codec import flatten
from medgan_core.config import Study
from medgan_core.data.source import Card
from medgan_core.errors import RefusedError
from medgan_core.messages import Phase
from medgan_core.privacy.plan import PrivacyPlan

NOT_ASSESSED = "not assessed"

_PHASES = {
    Phase.ONE_SHOT: "One-shot start",
    Phase.TRAIN: "Adversarial rounds",
    Phase.GATE: "Gate",
    Phase.EVALUATE: "Evaluation",
    Phase.ATTACK: "Attack on members",
    Phase.CONTROL: "Its control",
}
_SCORES = (
    ("accuracy", "Accuracy"),
    ("balanced_accuracy", "Balanced accuracy"),
    ("auc", "AUC"),
)
_DISTANCES = (("frechet", "Fréchet distance"), ("kernel", "Kernel distance"))
_NEIGHBOURHOODS = (
    ("precision", "Precision", "synthetic images that lie among the real ones", "about 0.9"),
    ("recall", "Recall", "real images that lie among the synthetic ones", "about 0.9"),
    ("density", "Density", "how densely real images surround the synthetic ones", "about 1"),
    ("coverage", "Coverage", "real images with a synthetic neighbour", "about 0.97"),
    ("msssim_synthetic", "MS-SSIM, synthetic pairs", "likeness within a class; higher is less diverse", ""),
    ("msssim_real", "MS-SSIM, real pairs", "the same between real patients", ""),
)
_STRUCTURE = {
    "mutual_information": "Mutual information of two modalities, nats",
    "slice_correlation": "Correlation of neighbouring slices",
    "msssim_3d": "3-D MS-SSIM of pairs",
}
_COPYING = (
    ("to_training", "Distance to the nearest training image", "median over synthetic images"),
    ("to_held_out", "Distance to the nearest held-out image", "the control: patients never seen"),
    ("share_nearer_training", "Share nearer to training", "0.5 where nothing is copied, near 1 for copies"),
    ("standard_error", "Its standard error", "of the share above"),
    (
        "baseline_to_training",
        "Distance of real held-out images to training",
        "the same, asked of real images",
    ),
    (
        "baseline_share",
        "Share of those nearer to training",
        "far from 0.5: the two sets differ, and the test says little",
    ),
    ("training_by_hash", "Training patients with a near-duplicate", "at most 6 of 64 bits of a hash differ"),
    ("held_out_by_hash", "Held-out patients with one", "the control"),
    (
        "training_by_pixels",
        "Training patients with an image as good as copied",
        "more like a synthetic image than 99 of 100 held-out images are",
    ),
    ("held_out_by_pixels", "Held-out patients with one", "the control: about 0.01"),
)


def render_report(
    *,
    study: Study,
    card: Card,
    plan: PrivacyPlan,
    run: str,
    epsilon: float,
    by_site: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    samples_png: bytes | None,
    curves_png: bytes,
    duration_seconds: float,
    environment: Mapping[str, Any],
    simulated: bool,
    explained_png: bytes | None = None,
) -> str:
    """The page as HTML: no script, no link, no request to anywhere; every text is escaped.

    `by_site` has, for each site, "site" and the ε "training", "held_out" (of this run), "account" (the
    larger account, earlier runs included), "cap" where the site has told it, and under secure sum "local".
    `metrics["released"]` holds "accuracy", "balanced_accuracy" and "auc" read from the noisy histogram;
    `metrics["gate"]`, where there was one, all figures of its `Verdict` and "refined_accuracy", that of the
    refined generator kept or not; `metrics["public"]`, only for a card that is public, the dicts
    "train_on_real", "train_on_synthetic", "fidelity", "memorization" and, where a task has such a score,
    "structure" as `SiteReport.to_json` names them, and "candidates" with the scores of both generators.
    Figures are floats, "nan" and "inf" as strings too; others may be missing. `simulated`: the hospitals are
    those of a simulation, which may show real images that are public, `explained_png` too. There,
    "augmentation" has for each share of the real patients and each figure those of its `Gain`.

    Raises:
        RefusedError: figures of real images that are not declared public.
    """
    if explained_png is not None and not card.public:
        raise RefusedError(f"report: maps over real images of {card.name} may not leave their site")
    return _page().render(
        study=study,
        card=card,
        plan=plan,
        run=run,
        epsilon=epsilon,
        duration=duration(duration_seconds),
        samples=None if samples_png is None else b64encode(samples_png).decode(),
        explained=None if explained_png is None else b64encode(explained_png).decode(),
        curves=b64encode(curves_png).decode(),
        simulated=simulated,
        departures=departures(study, plan, history),
        settings=_settings(study.to_dict()),
        environment=_settings(environment),
        **_quality(study, metrics, _public(metrics, card)),
        **_spent(by_site),
    )


def _quality(study: Study, metrics: Mapping[str, Any], public: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says of the images: are they useful, like real ones, copies of patients? Or of scores."""
    copies = {**(public.get("memorization") or {}), **(public.get("copying") or {})}
    return {
        "told": [] if study.free_fakes else told_scores(metrics.get("released") or {}, public),
        "assessed": bool(public),
        "useful": usefulness(metrics.get("released") or {}, public),
        "gate": metrics.get("gate"),
        "candidates": candidates(public.get("candidates") or {}),
        "like": likeness(public.get("fidelity") or {}),
        "gained": gained(public.get("augmentation") or {}),
        "held_together": held_together(public.get("structure") or {}),
        "copies": [(name, copies.get(key), why) for key, name, why in _COPYING],
    }


def _spent(by_site: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the page says of the sites' budgets."""
    return {
        "local_epsilon": max((_number(site.get("local")) for site in by_site), default=nan),
        "spending": [spending(site) for site in by_site],
        "capped": any(site.get("cap") is not None for site in by_site),
    }


def _public(metrics: Mapping[str, Any], card: Card) -> Mapping[str, Any]:
    public: Mapping[str, Any] = metrics.get("public") or {}
    if public and not card.public:
        raise RefusedError(
            f"report: figures of the real images of {card.name} may not leave their site, since the card "
            "does not declare them public; leave metrics['public'] out"
        )
    return public


def _page() -> Template:
    pages = Environment(
        loader=PackageLoader("server"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {"figure": figure, "score": score, "quoted": shlex.quote}
    return pages.get_template("report.html")


def figure(value: object, digits: int = 3) -> str:
    """A number for people: `digits` significant ones, ∞, or "not assessed" for nan and what is no number."""
    number = _number(value)
    if isnan(number):
        return NOT_ASSESSED
    if isinf(number):
        return "∞" if number > 0 else "−∞"
    return f"{number:.{digits}g}".replace("e-0", "e-").replace("-", "−")


def score(value: object) -> str:
    """A share or a difference of two with three places, or "not assessed"."""
    number = _number(value)
    return NOT_ASSESSED if isnan(number) else f"{number:.3f}".replace("-", "−")


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, the two largest that matter."""
    if isnan(seconds) or seconds < 0:
        return NOT_ASSESSED
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def usefulness(released: Mapping[str, Any], public: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each score: from the noisy histogram, and trained on synthetic and on real where public."""
    synthetic, real = public.get("train_on_synthetic") or {}, public.get("train_on_real") or {}
    return [
        {
            "name": name,
            "released": released.get(key),
            "synthetic": synthetic.get(key),
            "real": real.get(key),
            "gap": _number(synthetic.get(key)) - _number(real.get(key)),
        }
        for key, name in _SCORES
    ]


def told_scores(released: Mapping[str, Any], public: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Rows (score, read from the noisy sum, exact where the images are public) of a task with references."""
    exact = public.get("scores") or {}
    return [(name, value, exact.get(name)) for name, value in released.items()]


def gained(augmentation: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[tuple[str, Any]]:
    """Rows (share of the real patients and figure, its `Gain`)."""
    known = dict(_SCORES)
    return [
        (f"{known[figure]}, {share} of the patients", gain)
        for share, figures in augmentation.items()
        for figure, gain in figures.items()
    ]


def candidates(reached: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Rows (score, the one-shot generator's, the refined one's), none where these may not be told."""
    one_shot, refined = reached.get("one_shot") or {}, reached.get("refined") or {}
    return [(name, one_shot.get(key), refined.get(key)) for key, name in _SCORES if reached]


def likeness(fidelity: Mapping[str, Any]) -> dict[str, list[tuple[Any, ...]]]:
    """Rows (name, distance, floor, ratio) and (name, figure, meaning, value for real images)."""
    return {
        "distances": [
            (name, *(fidelity.get(f"{key}{part}") for part in ("", "_floor", "_ratio")))
            for key, name in _DISTANCES
        ],
        "neighbourhoods": [(name, fidelity.get(key), why, good) for key, name, why, good in _NEIGHBOURHOODS],
    }


def held_together(structure: Mapping[str, Any]) -> list[tuple[str, Any, Any, Any]]:
    """Rows (score, of synthetic images, of real ones, of synthetic ones whose channels were shuffled)."""
    scores = dict.fromkeys(name.rpartition("_")[0] for name in structure)

    def of(name: str, kind: str) -> Any:
        return structure.get(f"{name}_{kind}")

    return [
        (_STRUCTURE[name], of(name, "synthetic"), of(name, "real"), of(name, "shuffled")) for name in scores
    ]


def spending(site: Mapping[str, Any]) -> dict[str, Any]:
    """What a site spent and what its cap leaves: nothing once ∞ was spent, nan where either is unknown."""
    account, cap = _number(site.get("account")), _number(site.get("cap"))
    left = nan if isnan(account) or isnan(cap) else 0.0 if isinf(account) else max(cap - account, 0.0)
    return {
        **{name: site.get(name) for name in ("site", "training", "held_out", "account", "cap")},
        "left": left,
    }


def departures(study: Study, plan: PrivacyPlan, history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What left the sites, by phase: rounds done, contents, the noise on it, and whose account paid."""
    reported = "generator loss, discriminator accuracy on fakes, " if study.free_fakes else ""
    reported += "number of steps"
    sent = {
        "both": f"weights of generator and discriminator; {reported}",
        "generator": f"weights of the generator; {reported}",
        "gradient": "one sum of clipped gradients of the discriminator in each round, which is one step",
    }
    judged = "one histogram of a classifier's scores for each class"
    content = {
        Phase.ONE_SHOT: "one sum of random features for each class, from which noisy class counts are read",
        Phase.TRAIN: sent[study.share],
        Phase.GATE: "one sum: how much better the refined generator's classifier does than the one-shot's",
        Phase.EVALUATE: judged if study.free_fakes else "one sum of the scores of held-out images",
        Phase.ATTACK: "one histogram for each attack: how much patients look like those it was trained on",
        Phase.CONTROL: "the same of patients it was not trained on",
    }
    done = [phase for phase in Phase if any(entry["phase"] == phase for entry in history)]
    return [_departure(phase, content[phase], plan, history) for phase in done]


def _departure(
    phase: Phase, content: str, plan: PrivacyPlan, history: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    done = [entry for entry in history if entry["phase"] == phase]
    clipped = f"each {plan.unit}'s gradient clipped to {plan.clip_norm:g}"
    clipped += " in the sum of all sites, under a mask" if plan.summed(phase) else ""
    bound = "sensitivity 1 in the sum of all sites, under a mask" if plan.summed(phase) else "sensitivity 1"
    return {
        "phase": _PHASES[phase],
        "content": content,
        "bound": clipped if phase is Phase.TRAIN else bound,
        "noise": plan.event(phase).noise_multiplier,
        "account": f"{plan.account(phase).replace('_', '-')} patients",
        "rounds": len(done),
        "sites": len({site for entry in done for site in entry["sites"]}),
    }


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return nan


def _settings(body: Mapping[str, Any]) -> dict[str, str]:
    return {key: value if isinstance(value, str) else _json(value) for key, value in flatten(body).items()}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
