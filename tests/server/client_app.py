"""The ClientApp of the tests' sites: it hands each message to a site behind a socket. No torch."""

from multiprocessing.connection import Client

from client.app import make_client_app
from medgan_core.envelope import Answered, Asked, Envelope, answer_from_envelope, asked_to_envelope
from medgan_core.errors import RefusedError


def ask(socket: str, asked: Asked) -> Answered:
    """The other end of `tests.server.sites.Served`."""
    with Client(socket) as connection:
        connection.send(tuple(asked_to_envelope(asked)))
        answer = answer_from_envelope(Envelope(*connection.recv()))
    if isinstance(answer, tuple):
        raise RefusedError(answer[1])
    return answer


app = make_client_app(lambda context, asked: ask(str(context.node_config["socket"]), asked))
