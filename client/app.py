"""Flower's side of a site: a thin shim without torch that hands each message on and the answer back."""

from collections.abc import Callable

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.reasons import reason_for_coordinator
from medgan_core.envelope import Answered, Asked
from medgan_core.errors import MedGANError
from medgan_core.wire import answer_to_records, asked_from_records, refusal_to_records

Answer = Callable[[Context, Asked], Answered]


def make_client_app(answer: Answer) -> ClientApp:
    """A ClientApp whose handlers all do the same: `answer(context, asked)` knows what is asked."""
    app = ClientApp()

    def handle(message: Message, context: Context) -> Message:
        try:
            content = answer_to_records(answer(context, asked_from_records(message.content)))
        except MedGANError as error:
            content = refusal_to_records(f"node {context.node_id}", reason_for_coordinator(error))
        return Message(content, reply_to=message)

    app.query()(handle)
    app.train()(handle)
    app.evaluate()(handle)
    return app
