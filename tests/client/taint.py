"""Follows private data through every operation of torch, below autograd: backward passes and updates too."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medgan_core.privacy.book_keeping import BookKeeper


class Taint(TorchDispatchMode):
    """Marks whatever is computed from marked tensors, memory by memory, and notes what Python reads of it.

    Marked memory is held, so that its address is not given to something else.
    """

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []
        self._held: dict[int, UntypedStorage] = {}
        self._behind_the_door = False

    def mark(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        self._held[storage._cdata] = storage

    def unmark(self, tensor: Tensor) -> None:
        self._held.pop(tensor.untyped_storage()._cdata, None)

    def marked(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._held

    @contextmanager
    def door(self, *, open: bool) -> Iterator[None]:
        """Behind the open door, the engine itself may read: norms, patients and their counts."""
        before, self._behind_the_door = self._behind_the_door, open
        try:
            yield
        finally:
            self._behind_the_door = before

    def let_the_engine_through(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the engine's clipped sum gives is marked no more; the loss that it calls stays watched."""
        clipped_sum = BookKeeper.clipped_sum

        def door(keeper: BookKeeper, loss: Any, *data: Any) -> list[Tensor]:
            def watched(*given: Any) -> Tensor:
                with self.door(open=False):
                    value: Tensor = loss(*given)
                return value

            with self.door(open=True):
                found = clipped_sum(keeper, watched, *data)
            assert not found or any(map(self.marked, found))
            for tensor in found:
                self.unmark(tensor)
            return found

        monkeypatch.setattr(BookKeeper, "clipped_sum", door)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if any(self.marked(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)):
            written = [
                value
                for argument, value in zip(func._schema.arguments, args, strict=False)
                if argument.alias_info is not None and argument.alias_info.is_write
            ]
            written += [kwargs[a.name] for a in func._schema.arguments if a.is_out and a.name in kwargs]
            for leaf in tree_leaves((out, written)):
                if isinstance(leaf, Tensor):
                    self.mark(leaf)
                elif isinstance(leaf, int | float | bool) and not self._behind_the_door:
                    self.read.append(str(func))
        return out
