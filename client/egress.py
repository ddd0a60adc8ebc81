"""What may leave a site in a round: names, shapes and dtypes, made from the study alone. All else stays.

Whatever a bug or a changed task would add to an answer is found here, after the work and before the channel.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from medgan_core.config import ATTACK_BINS, GATE_SIZE, SCORE_BINS, Study
from medgan_core.errors import RefusedError
from medgan_core.gan.tasks import make_task
from medgan_core.messages import METRICS, Array, Groups, Phase, Request, Stage, StageReply, Update
from medgan_core.privacy.plan import PrivacyPlan

Shape = tuple[int, ...]
Kind = np.dtype[Any]
Allowed = Mapping[str, Mapping[str, tuple[Shape, Kind]]]
_LONGEST_MESSAGE = 1024
"""Bytes of keys, sealed shares and signatures between the parties of a secure sum."""
_FLOAT32, _FLOAT64, _WORDS = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.uint64)


def allowed(study: Study, plan: PrivacyPlan, phase: Phase) -> Allowed:
    """Group → tensor → shape and dtype of all that a round of this phase may send."""
    if plan.summed(phase):
        return {"masked": {"sum": ((sizes_of_sums(study)[phase],), _WORDS)}}
    classes = len(study.data.classes)
    if phase is Phase.ONE_SHOT:
        return {"statistics": {"embedding": ((classes, study.feature_count + 1), _FLOAT64)}}
    if phase is Phase.GATE:
        return {"statistics": {"gate": ((GATE_SIZE,), _FLOAT64)}}
    if phase in (Phase.ATTACK, Phase.CONTROL):
        return {"statistics": {str(phase): ((len(study.attacks), 2, ATTACK_BINS), _FLOAT64)}}
    if phase is Phase.EVALUATE and not study.free_fakes:
        return {"statistics": {"scores": ((study.judged_size,), _FLOAT64)}}
    if phase is Phase.EVALUATE:
        return {"statistics": {"histogram": ((classes, classes, SCORE_BINS), _FLOAT64)}}
    return _networks(study)


def sizes_of_sums(study: Study) -> dict[Phase, int]:
    """How many numbers a site adds to the secure sum of each phase."""
    one_shot, evaluation = study.sizes_of_sums
    return {
        Phase.ONE_SHOT: one_shot,
        Phase.TRAIN: study.discriminator_size,
        Phase.GATE: GATE_SIZE,
        Phase.EVALUATE: evaluation,
        Phase.ATTACK: study.attack_size,
        Phase.CONTROL: study.attack_size,
    }


def check_update(update: Update, request: Request, allow: Allowed, metrics: Sequence[str]) -> None:
    """RefusedError, naming what is wrong, for an update that holds anything but what is allowed.

    `metrics` are those that this site lets out at all.
    """
    if (update.round, update.phase) != (request.round, request.phase):
        raise _stays(f"an answer to round {update.round} ({update.phase})")
    let_out = METRICS[request.phase] & set(metrics) if request.secure is None else frozenset()
    if strange := sorted(set(update.metrics) - let_out):
        raise _stays(f"metric {strange[0][:80]!r}")
    if not all(type(value) is float and math.isfinite(value) for value in update.metrics.values()):
        raise _stays("a metric that is no finite number")
    _check_groups(update.groups, allow)


def check_reply(reply: StageReply, request: Request, sites: Sequence[str]) -> None:
    """The same for the messages of a secure sum, which hold no data: bytes under names that the stage has."""
    asked = request.secure
    if asked is None or (reply.round, reply.stage, reply.nonce) != (request.round, asked.stage, asked.nonce):
        raise _stays("a message of another stage or session")
    names = _names(reply.stage, reply.site, sites)
    for name, array in reply.messages.items():
        if name not in names:
            raise _stays(f"message {name[:80]!r} in stage {reply.stage}")
        if array.dtype != np.uint8 or array.ndim != 1 or array.size > _LONGEST_MESSAGE:
            raise _stays(f"message {name[:80]!r} of {array.dtype} {array.shape}")


def _names(stage: Stage, site: str, sites: Sequence[str]) -> set[str]:
    if stage is Stage.ADVERTISE:
        return {"keys"}
    if stage is Stage.SHARE:
        return set(sites) - {site}
    if stage is Stage.CONFIRM:
        return {"signature"}
    return {f"{kind} {name}" for kind in ("seed", "key") for name in sites}


def _check_groups(groups: Groups, allow: Allowed) -> None:
    if set(groups) != set(allow):
        raise _stays(f"groups {_listed(groups)} instead of {_listed(allow)}")
    for group, arrays in groups.items():
        if set(arrays) != set(allow[group]):
            raise _stays(
                f"tensors of {group}: {_listed(set(arrays) ^ set(allow[group]))} missing or not allowed"
            )
        for name, array in arrays.items():
            _check_array(f"{group}/{name}", array, *allow[group][name])


def _check_array(name: str, array: Array, shape: Shape, dtype: Kind) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise _stays(f"{name} of {array.dtype} {array.shape} instead of {dtype} {shape}")
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise _stays(f"{name} with NaN or infinity")


def _networks(study: Study) -> Allowed:
    data = study.data
    task = make_task(study, data.image_shape, data.classes)
    with torch.device("meta"):  # shapes alone: no weight is drawn
        made = {"generator": task.make_generator(), "discriminator": task.make_discriminator()}
    return {
        name: {key: (tuple(p.shape), _FLOAT32) for key, p in network.named_parameters()}
        for name, network in made.items()
        if name == "generator" or study.share == "both"
    }


def _stays(what: str) -> RefusedError:
    return RefusedError(f"not allowed to leave this site, and it did not: {what}; this is a bug, report it")


def _listed(names: Iterable[str]) -> str:
    return json.dumps(sorted(name[:80] for name in names)[:5])
