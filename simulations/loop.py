"""The plain engine: every site in turn, in this process. The same pure functions as over any network."""

from collections.abc import Callable, Iterator, Sequence

from client.secure import Kept
from client.site import SiteWorker
from medgan_core.errors import MedGANError
from medgan_core.messages import Request
from server.exchange import Answer, Exchange, Refusal
from server.state import FederationState

Course = Callable[[Exchange], FederationState]


def loop_engine(workers: Sequence[SiteWorker], course: Course) -> FederationState:
    """Run the course with the sites answering one after the other."""

    sums: list[Kept] = [{} for _ in workers]

    def exchange(request: Request) -> Iterator[Answer]:
        for worker, kept in zip(workers, sums, strict=True):
            try:
                yield worker.answer(request) if request.secure is None else worker.take_part(request, kept)
            except MedGANError as error:
                yield Refusal(worker.site.name, f"{worker.site.name}: {error}")

    return course(exchange)
