"""A coordinator's ServerApp that has every training round echoed by empty ClientApps before it is run.

The echo carries the round's own request to the same nodes over the same Grid, with the same polling. It comes
twice, so that the second one and the round itself both begin at once after another's last reply. When what
began and ended goes to `marks.jsonl` in the run's folder, by the monotonic clock.
"""

import json
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp

from medgan_core.messages import Phase, Request
from medgan_core.wire import asked_to_records
from server.contact import POLL_SECONDS, Contact
from server.deployment import Deployment
from server.exchange import Answer
from server.flower_state import lost_messages
from server.folder import VARIABLE, CoordinatorFolder
from server.run_file import RunFiles
from simulations.benchmarks.echo_node import changed

MARKS = "marks.jsonl"
_TYPE = "train.echo"
_PATIENCE = 600.0

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Serve the run that the bundle's configuration names, with echoes."""
    folder = CoordinatorFolder.open(Path(os.environ[VARIABLE]))
    run = folder.run(str(context.run_config["run"]))
    files = RunFiles(run)
    with files.serve(str(context.run_id)):
        deployment = Deployment(folder, run)
        lost = partial(lost_messages, folder.database)
        contact = EchoingContact(grid, deployment.roster, lambda: files.stop_wanted, deployment.told, lost)
        deployment.go(contact.into(run.path / MARKS))


class EchoingContact(Contact):
    """Echoes each training request before it is asked."""

    def into(self, path: Path) -> "EchoingContact":
        """Where the marks go."""
        self._marks = path
        return self

    def exchange(self, request: Request, *limits: Any, **named: Any) -> Iterator[Answer]:
        """As every coordinator's, after two echoes of the request."""
        self._mark("begun", request.round)
        if request.phase is Phase.TRAIN:
            for salt, what in enumerate(("prepared", "echoed"), 1):
                self._echo(request, 2 * request.round + salt)
                self._mark(what, request.round)
        for answer in super().exchange(request, *limits, **named):
            self._mark("answered", request.round)
            yield answer

    def _echo(self, request: Request, salt: int) -> None:
        content = changed(asked_to_records(request), 0, salt)
        nodes = list(self.grid.get_node_ids())
        messages = [Message(content=content, dst_node_id=node, message_type=_TYPE) for node in nodes]
        waiting, until = set(self.grid.push_messages(messages)), time.monotonic() + _PATIENCE
        while waiting and time.monotonic() < until:
            for reply in self.grid.pull_messages(list(waiting)):
                waiting.discard(reply.metadata.reply_to_message_id)
            time.sleep(POLL_SECONDS if waiting else 0.0)

    def _mark(self, what: str, number: int) -> None:
        with self._marks.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"what": what, "round": number, "when": time.monotonic()}) + "\n")
