"""A node's ClientApp for the benchmark of overhead: messages of `train.echo` come back nearly as they are.

All others go to the site's trainer, by the shim of every node, which is loaded for them alone.
"""

from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train("echo")
def echo(message: Message, context: Context) -> Message:
    """What an empty ClientApp does: other bytes go back than came, as from any training."""
    return Message(changed(message.content, 1, context.node_id), reply_to=message)


@app.query()
@app.train()
@app.evaluate()
def ask(message: Message, context: Context) -> Message:
    """What a node's app does."""
    from client.node_app import app as shim

    return shim(message, context)


def changed(records: RecordDict, place: int, salt: int) -> RecordDict:
    """The same records, but for byte `place` from the end of every array: xor `salt` modulo 255.

    Flower stores and sends equal bytes once: an echo of a message would not travel at all.
    """
    return RecordDict(
        {
            name: ArrayRecord({key: _changed(array, place, salt % 255) for key, array in record.items()})
            if isinstance(record, ArrayRecord)
            else record
            for name, record in records.items()
        }
    )


def _changed(array: Array, place: int, salt: int) -> Array:
    data = bytearray(array.data)
    if len(data) > place:
        data[-1 - place] ^= salt
    return Array(array.dtype, tuple(array.shape), array.stype, bytes(data))
