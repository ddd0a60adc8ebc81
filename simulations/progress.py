"""What a person sees while a run goes on: a bar for each round with the time left, metrics as they come."""

from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from medgan_core.config import Study
from medgan_core.messages import Phase, Request
from server.exchange import Answer, Exchange, Refusal

_SHOWN = {
    "mismatch": "mismatch {:.3f}",
    "generator_loss": "G loss {:.3f}",
    "discriminator_accuracy_on_fakes": "D on fakes {:.0%}",
    "kept": "kept the {} generator",
    "gain": "gain {:+.3f}",
    "accuracy": "accuracy {:.3f}",
    "auc": "AUC {:.3f} (noisy)",
}


class Progress(Protocol):
    """Hears what happens in a run; used in a `with` block while rounds go on."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def say(self, text: str) -> None:
        """A line for the person."""

    def begin(self, study: Study, done: int) -> None:
        """The rounds of this study are about to go on; `done` of them are finished."""

    def watch(self, exchange: Exchange) -> Exchange:
        """The same exchange, with its answers counted."""

    def finished(self, entry: Mapping[str, Any]) -> None:
        """A round is finished and kept; `entry` is its line of history."""

    def refused(self, refusal: Refusal) -> None:
        """A site gave no acceptable update."""


class Silent:
    """Hears everything and says nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def say(self, text: str) -> None:
        """Nothing."""

    def begin(self, study: Study, done: int) -> None:
        """Nothing."""

    def watch(self, exchange: Exchange) -> Exchange:
        """The exchange itself."""
        return exchange

    def finished(self, entry: Mapping[str, Any]) -> None:
        """Nothing."""

    def refused(self, refusal: Refusal) -> None:
        """Nothing."""


class Terminal(Silent):
    """Bars and lines on a console (standard error, so that standard output holds the result alone)."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self._whole: TaskID | None = None
        self._sites = self._every = 1

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """A plain line."""
        self.console.print(text, highlight=False, markup=False)

    def begin(self, study: Study, done: int) -> None:
        """Start the bar of the whole run."""
        self._sites = study.sites.count
        self._whole = self._bars.add_task(f"run of {study.name}", total=study.round_count, completed=done)
        self._every = study.training_rounds // study.rounds if study.rounds else 1

    def watch(self, exchange: Exchange) -> Exchange:
        """A bar for each round that moves with every site's answer."""

        def watched(request: Request) -> Iterable[Answer]:
            return self._counted(request, exchange(request))

        return watched

    def _counted(self, request: Request, answers: Iterable[Answer]) -> Iterator[Answer]:
        stage = f", {request.secure.stage}" if request.secure else ""
        name = f"round {request.round} ({request.phase}{stage}), sites"
        bar = self._bars.add_task(name, total=self._sites)
        try:
            for answer in answers:
                self._bars.advance(bar)
                yield answer
        finally:
            self._bars.remove_task(bar)

    def finished(self, entry: Mapping[str, Any]) -> None:
        """One line of metrics for the round; of joint steps one for as many as the study calls a round."""
        figures = [text.format(entry[name]) for name, text in _SHOWN.items() if name in entry]
        if entry["phase"] != Phase.TRAIN or entry["round"] % self._every == 0:
            self.say(f"round {entry['round']} {entry['phase']}: " + ", ".join(figures))
        if self._whole is not None:
            self._bars.advance(self._whole)

    def refused(self, refusal: Refusal) -> None:
        """One line with the reason."""
        self.console.print(f"refused: {refusal.reason}", style="yellow", highlight=False, markup=False)
