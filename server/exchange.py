"""How a coordinator reaches its sites: one request out, the answers as they come."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from medgan_core.errors import RoundError
from medgan_core.messages import Receipt, Request, StageReply, Update


class StoppedError(RoundError):
    """A person asked for the run to end."""


@dataclass(frozen=True)
class Refusal:
    """A site that gave no acceptable update in a round, and why, as far as the coordinator may know.

    `receipt` is that of an update which arrived for this request and was refused for its content.
    """

    site: str
    reason: str
    receipt: Receipt | None = None

    def __str__(self) -> str:
        return self.reason if self.site in self.reason else f"{self.site}: {self.reason}"


Answer = Update | StageReply | Refusal
Exchange = Callable[[Request], Iterable[Answer]]
