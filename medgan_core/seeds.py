"""Named child generators of one root seed. Never a global seed, and never a source of privacy noise."""

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Seeds:
    """A node of a tree of seeds: the same path from the same root always gives the same stream."""

    root: int
    path: tuple[str, ...] = ()

    def child(self, *names: object) -> "Seeds":
        """The node below this one with these names."""
        return Seeds(self.root, self.path + tuple(str(name) for name in names))

    def integer(self) -> int:
        """A 63-bit seed for this node."""
        names = (name.replace("~", "~0").replace("/", "~1") for name in self.path)
        text = "/".join((str(self.root), *names))
        return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1

    def generator(self) -> "torch.Generator":
        """A fresh torch generator on the CPU, seeded for this node."""
        import torch

        return torch.Generator().manual_seed(self.integer())
