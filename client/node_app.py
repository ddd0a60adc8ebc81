"""The node's ClientApp: it hands each message to the site's trainer, as it is, and brings the answer back.

It runs in a process that its coordinator's bundle can reach, and so it knows nothing: no data, no key and no
torch. Where the trainer listens and what the site is called, the node's own configuration says.
"""

import sys
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.channel import Channel
from client.reasons import reason_for_coordinator
from medgan_core.envelope import Envelope, refusal_to_envelope
from medgan_core.errors import MedGANError, TrainerError
from medgan_core.wire import envelope_from_records, envelope_to_records

_DAY = 24 * 3600.0
_PATIENCE = 45.0


def make_node_app(patience: float = _PATIENCE) -> ClientApp:
    """A ClientApp that asks the trainer at the node's `socket`, whatever the kind of the message.

    The node's configuration holds `socket` (a path), `site` (its name) and perhaps `deadline` in seconds. A
    trainer that is being restarted is waited for `patience` seconds; then, or when the deadline is over, the
    answer is a refusal in one line.
    """
    app = ClientApp()

    def handle(message: Message, context: Context) -> Message:
        return Message(envelope_to_records(_answer(message, context, patience)), reply_to=message)

    app.query()(handle)
    app.train()(handle)
    app.evaluate()(handle)
    return app


def _answer(message: Message, context: Context, patience: float) -> Envelope:
    facts = context.node_config
    try:
        channel = Channel(Path(str(facts["socket"])))
        asked = envelope_from_records(message.content)
        return channel.ask(asked, float(facts.get("deadline", _DAY)), patience)
    except MedGANError as error:
        print(f"no answer to the coordinator: {error}", file=sys.stderr)
        reason = str(error) if isinstance(error, TrainerError) else reason_for_coordinator(error)
        return refusal_to_envelope(str(facts.get("site", f"node {context.node_id}")), reason)


app = make_node_app()
"""What the bundle's client component names."""
