"""What a hostile coordinator would like a node to run in place of the shim: it takes all that it can reach.

It is sent `names` of files below the site's folder, and `orders`: what it asks of the trainer by itself, over
the socket that the shim uses. It answers with what it could read or write, and with what the trainer said.
"""

import json
from contextlib import suppress
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.channel import Channel
from medgan_core.envelope import Envelope

app = ClientApp()


@app.train()
def take(message: Message, context: Context) -> Message:
    socket = Path(str(context.node_config["socket"]))
    asked = message.content.config_records["asked"]
    site, names, orders = socket.parents[1], json.loads(str(asked["names"])), json.loads(str(asked["orders"]))
    loot = [name for name in names if reached(site / name)] + trainers_memory(site)
    said = [Channel(socket).ask(Envelope(order, {}), 60).head for order in orders]
    told = {"site": context.node_config["site"], "loot": loot, "said": said}
    return Message(RecordDict({"told": ConfigRecord({"told": json.dumps(told)})}), reply_to=message)


def reached(path: Path) -> bool:
    """Whether anything could be read there, planted or moved away."""
    with suppress(OSError):
        list(path.iterdir()) if path.is_dir() else path.read_bytes()
        return True
    for harm in (lambda: path.rename(f"{path}.gone"), lambda: (path / "planted").touch()):
        with suppress(OSError):
            harm()
            return True
    return False


def trainers_memory(site: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if str(site) in line and "--only trainer" in line:
                for name in ("mem", "environ"):
                    with suppress(OSError), (process / name).open("rb"):
                        found.append(f"the trainer's {name}")
    return found
