"""A device that is not there: tensors on it are really on the CPU, and whoever forgets to move one is caught.

A machine without a GPU can thus tell whether a computation is carried by its device. It is called "meta" in
torch, which knows no such values: an operation that goes past this bookkeeping fails.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ELSEWHERE = torch.device("meta")
_MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class _There(Tensor):
    """A tensor on the device; `here` has its values."""

    here: Tensor
    is_meta = False  # else torch would warn that there are no values to load

    @staticmethod
    def __new__(cls, here: Tensor) -> "_There":
        made: _There = Tensor._make_wrapper_subclass(
            cls,
            here.size(),
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=ELSEWHERE,
        )
        made.here = here
        return made

    def tolist(self) -> Any:
        """As from a GPU: it waits, and copies."""
        return self.here.tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _done(func, args, kwargs or {})


class _Watch(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _done(func, args, kwargs or {})


def _done(func: Any, args: Any, kwargs: Any) -> Any:
    """Do it on the CPU; the outcome is where torch would have it."""
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = {id(leaf.here): leaf for leaf in given if isinstance(leaf, _There)}
    left_behind = [leaf for leaf in given if not isinstance(leaf, _There) and leaf.dim()]
    if there and left_behind and func not in _MOVES:
        raise RuntimeError(f"{func}: tensors on two devices")
    elsewhere = isinstance(args[0], _There) if func is _MOVES[1] else bool(there)
    if kwargs.get("device") is not None:
        elsewhere = torch.device(kwargs["device"]).type == ELSEWHERE.type
        kwargs = kwargs | {"device": torch.device("cpu")}
    if elsewhere and kwargs.get("generator") is not None:
        raise RuntimeError(f"{func}: a generator of the CPU")
    args, kwargs = tree_map(_here, (args, kwargs))

    def placed(out: Any) -> Any:
        if not isinstance(out, Tensor) or not elsewhere:
            return out
        return there[id(out)] if id(out) in there else _There(out)

    return tree_map(placed, func(*args, **kwargs))


def _here(leaf: Any) -> Any:
    return leaf.here if isinstance(leaf, _There) else leaf


@contextmanager
def elsewhere() -> Iterator[torch.device]:
    """The device, as long as the block lasts."""
    tensor, autocast = torch.tensor, torch.autocast

    def made(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        return tensor(*args, **kwargs).to(device or "cpu")  # torch itself would drop the values

    def cast(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return nullcontext() if device_type == ELSEWHERE.type else autocast(device_type, *args, **kwargs)

    with patch("torch.tensor", made), patch("torch.autocast", cast), _Watch():
        yield ELSEWHERE
