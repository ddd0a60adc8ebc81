"""The plain engine: every site in turn, in this process. The same pure functions as over any network."""

from collections.abc import Callable, Iterator, Sequence

from client.site import SiteWorker
from medgan_core.errors import MedGANError
from medgan_core.messages import Request, Update
from server.rounds import Exchange, Refusal
from server.state import FederationState

Course = Callable[[Exchange], FederationState]


def loop_engine(workers: Sequence[SiteWorker], course: Course) -> FederationState:
    """Run the course with the sites answering one after the other."""

    def exchange(request: Request) -> Iterator[Update | Refusal]:
        for worker in workers:
            try:
                yield worker.answer(request)
            except MedGANError as error:
                yield Refusal(worker.site.name, f"{worker.site.name}: {error}")

    return course(exchange)
