"""What a request must bring, checked before anything is charged: a round that fails later has cost privacy.

A corrected request is another one, and the ledger refuses it once the round is charged.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, NoReturn

import numpy as np
from torch import nn

from medgan_core.config import Study
from medgan_core.errors import PolicyError
from medgan_core.evaluate.utility import make_classifier
from medgan_core.gan.task import GanTask
from medgan_core.messages import DISCRIMINATORS, PROPORTIONS, RELAYED, Array, Arrays, Request
from medgan_core.sending import sent_groups
from medgan_core.tensors import seeded

Kind = tuple[tuple[int, ...], np.dtype]


class _Network(NamedTuple):
    """Shapes and dtypes of all that a network may be given, and the names that it must."""

    kinds: Mapping[str, Kind]
    needed: frozenset[str]


class Incoming:
    """The check of one study's requests. A network is made at the first request that brings its weights."""

    def __init__(self, study: Study, task: GanTask) -> None:
        self._study, self._task = study, task
        self._makers: dict[str, Callable[[], nn.Module]] = {
            "generator": task.make_generator,
            "discriminator": task.make_discriminator,
            "classifier": partial(make_classifier, task.image_shape[0], len(task.classes)),
        }
        self._networks: dict[str, _Network] = {}

    def check(self, request: Request) -> None:
        """Refuse a request that lacks a tensor of its phase, or has another one, by name with PolicyError.

        Another shape or dtype, NaN and infinity too. The coordinator may know why: it is its own request.
        """
        where = f"round {request.round}: the request's"
        relayed = {RELAYED} if request.secure is not None else set()
        groups = {name: arrays for name, arrays in request.groups.items() if name not in relayed}
        expected = set(sent_groups(self._study, request.phase))
        _check_names(f"{where} groups", set(groups), expected, expected)
        for name, arrays in groups.items():
            if name == "statistics":
                self._check_statistics(f"{where} {name}", arrays)
            elif name == DISCRIMINATORS:
                for number, weights in _by_round(f"{where} {name}", arrays).items():
                    self._check_network(f"{where} {name} of round {number}", "discriminator", weights)
            else:
                kind = "generator" if name == "release" else name.split("_")[0]
                self._check_network(f"{where} {name}", kind, arrays)

    def _check_network(self, where: str, kind: str, arrays: Arrays) -> None:
        kinds, needed = self._network(kind)
        _check_names(where, set(arrays), set(needed), set(kinds))
        for name, array in arrays.items():
            _check_array(f"{where} {name}", array, kinds[name])

    def _network(self, kind: str) -> _Network:
        if kind not in self._networks:
            network = seeded(self._makers[kind], 0)
            kinds = {n: (tuple(t.shape), t.numpy().dtype) for n, t in network.state_dict().items()}
            self._networks[kind] = _Network(kinds, frozenset(n for n, _ in network.named_parameters()))
        return self._networks[kind]

    def _check_statistics(self, where: str, arrays: Arrays) -> None:
        """The embedding, and the classes' shares at sites, whatever their names."""
        classes, floats = len(self._task.classes), np.dtype(np.float64)
        shares = {name for name in arrays if name.startswith(PROPORTIONS)}
        _check_names(where, set(arrays), {"embedding"}, {"embedding"} | shares)
        _check_array(
            f"{where} embedding", arrays["embedding"], ((classes, self._study.feature_count + 1), floats)
        )
        for name in sorted(shares):
            _check_array(f"{where} {name}", arrays[name], ((classes,), floats))
            if (arrays[name] < 0).any() or not arrays[name].sum() > 0:
                _refuse(f"{where} {name}: no shares of classes, expected numbers from 0 that are not all 0")


def _by_round(where: str, arrays: Arrays) -> dict[int, dict[str, Array]]:
    """The tensors of several discriminators by the round that begins their names."""
    rounds: dict[int, dict[str, Array]] = {}
    for name, array in arrays.items():
        number, _, tensor = name.partition(".")
        if not number.isdecimal():
            _refuse(f"{where} {name}: expected the number of a round, a dot, and the name of a tensor")
        rounds.setdefault(int(number), {})[tensor] = array
    return rounds


def _check_names(where: str, found: set[str], needed: set[str], known: set[str]) -> None:
    if missing := sorted(needed - found):
        _refuse(f"{where}: missing: {', '.join(missing)}")
    if extra := sorted(found - known):
        _refuse(f"{where}: not expected: {', '.join(extra)}")


def _check_array(where: str, array: Array, kind: Kind) -> None:
    if (array.shape, array.dtype) != kind:
        _refuse(f"{where}: {array.dtype} {array.shape}, expected {kind[1]} {kind[0]}")
    if not np.isfinite(array).all():
        _refuse(f"{where}: holds NaN or infinity")


def _refuse(why: str) -> NoReturn:
    told = f"{why}. Nothing was charged: send what the study asks for"
    raise PolicyError(told, told)
