"""Flower's side of the coordinator: requests out over a Grid, answers in. The course is elsewhere."""

import time
from collections.abc import Callable, Iterator

from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp

from medgan_core.errors import QuorumError, RoundError, UpdateError
from medgan_core.messages import Request
from medgan_core.proposals import Standing
from medgan_core.wire import answer_from_records, asked_to_records, message_type
from server.exchange import Answer, Exchange, Refusal

_POLL_SECONDS = 0.1


def make_server_app(
    course: Callable[[Exchange], object],
    sites: int,
    timeout: float,
    stopped: Callable[[], bool] = lambda: False,
) -> ServerApp:
    """A ServerApp that runs `course(exchange)` once `sites` nodes are there; each wait takes `timeout` s.

    A wait ends with a RoundError as soon as `stopped()` is true.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        nodes = _wait_for_nodes(grid, sites, timeout)
        course(lambda request: _exchange(grid, nodes, request, timeout, stopped))

    return app


def _wait_for_nodes(grid: Grid, sites: int, timeout: float) -> list[int]:
    end = time.monotonic() + timeout
    while len(nodes := list(grid.get_node_ids())) < sites:
        if time.monotonic() > end:
            raise QuorumError(
                f"{len(nodes)} of {sites} nodes came within {timeout:g} s: start the others and resume"
            )
        time.sleep(_POLL_SECONDS)
    return sorted(nodes)


def _exchange(
    grid: Grid, nodes: list[int], request: Request, timeout: float, stopped: Callable[[], bool]
) -> Iterator[Answer]:
    """Ask all nodes; each answer as it comes, not after the last as Flower's own send_and_receive does."""
    kind = message_type(request)
    content = asked_to_records(request)
    messages = [Message(content=content, dst_node_id=node, message_type=kind) for node in nodes]
    waiting = dict(zip(grid.push_messages(messages), nodes, strict=True))
    end = time.monotonic() + timeout
    while waiting and time.monotonic() < end:
        if stopped():
            raise RoundError(f"round {request.round} was stopped: resume the run")
        for name in list(waiting):  # one by one: together they would all be in memory at once
            for reply in grid.pull_messages([name]):
                waiting.pop(reply.metadata.reply_to_message_id, None)
                yield _answer(reply)
        time.sleep(_POLL_SECONDS if waiting else 0)
    for node in sorted(waiting.values()):
        yield Refusal(f"node {node}", f"node {node} gave no answer within {timeout:g} s")


def _answer(reply: Message) -> Answer:
    name = f"node {reply.metadata.src_node_id}"
    if reply.has_error():
        return Refusal(name, f"{name} failed: {reply.error.reason}")
    try:
        answer = answer_from_records(reply.content)
    except UpdateError as error:
        return Refusal(name, f"{name}: {error}")
    if isinstance(answer, Standing):
        return Refusal(name, f"{name}: an answer to a proposal, expected one to a round")
    return Refusal(*answer) if isinstance(answer, tuple) else answer
