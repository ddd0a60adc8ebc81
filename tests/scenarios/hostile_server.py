"""A hostile coordinator's side: it sends the same to every node, and writes down what comes back."""

import json
import os
import time
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    folder = Path(os.environ["MEDGAN_COORDINATOR"])
    asked = RecordDict({"asked": ConfigRecord(json.loads((folder / "asked.json").read_text()))})
    nodes = list(grid.get_node_ids())
    messages = [Message(content=asked, dst_node_id=node, message_type="train") for node in nodes]
    ids = set(grid.push_messages(messages))
    told: list[Any] = []
    while ids:
        for reply in grid.pull_messages(ids):
            ids.discard(reply.metadata.reply_to_message_id)
            told.append(json.loads(str(reply.content.config_records["told"]["told"])))
        time.sleep(0.2)
    (folder / "told.part").write_text(json.dumps(told))
    (folder / "told.part").rename(folder / "told.json")
