"""The ServerApp of a deployed run: it opens the run's folder by its name and serves it."""

import os
from functools import partial
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from medgan_core.errors import InputError, MedGANError
from server.contact import Contact
from server.deployment import Deployment
from server.flower_state import lost_messages
from server.folder import VARIABLE, CoordinatorFolder
from server.run_file import OVER, RunFiles

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Serve the run that the bundle's configuration names."""
    place = os.environ.get(VARIABLE)
    if not place:
        raise InputError(f"${VARIABLE} is not set: runs are served by the superexec of medgan-server up")
    serve(CoordinatorFolder.open(Path(place)), str(context.run_config["run"]), grid, str(context.run_id))


def serve(folder: CoordinatorFolder, name: str, grid: Grid, flower_run: str) -> None:
    """Serve a run over this grid until it is over or paused; nobody else can meanwhile.

    Of a run that is over already, the sites that do not know it are told.
    """
    run = folder.run(name)
    files = RunFiles(run)
    with files.serve(flower_run):
        try:
            deployment = Deployment(folder, run)
        except MedGANError as error:
            if files.standing.state not in OVER:
                files.stand("paused", str(error))
            return
        deployment.go(
            Contact(
                grid,
                deployment.roster,
                lambda: files.stop_wanted,
                deployment.told,
                partial(lost_messages, folder.database),
            )
        )
