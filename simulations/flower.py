"""The same run through Flower's own simulation: a ServerApp, a ClientApp in Ray actors, the Message API."""

import logging
import os
import threading
import warnings
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from client.app import make_client_app
from client.secure import Kept
from client.site import RandomFor, SiteWorker
from medgan_core.envelope import Asked
from medgan_core.errors import RoundError, UpdateError
from medgan_core.messages import Request, StageReply, Update
from medgan_core.record import RunFolder
from server.app import make_server_app
from server.exchange import Exchange
from server.state import FederationState
from simulations.hospitals import Launch, make_worker, open_ledger, open_sites
from simulations.loop import Course

if TYPE_CHECKING:
    from flwr.app import Context

_TIMEOUT_SECONDS = 3600.0
_SUMS = "medgan.sums"


@dataclass(frozen=True)
class Actors:
    """What an actor needs to become a site's worker: the run's folder and how the run was launched."""

    run: Path
    launch: Launch
    random_for: RandomFor


def flower_engine(actors: Actors, sites: int, course: Course) -> FederationState:
    """Run the course with the sites answering through Flower; raises what the course raises."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves the sites on a busy machine
    outcome: list[FederationState | BaseException] = []

    def guarded(exchange: Exchange) -> None:
        try:
            outcome.append(course(exchange))
        except BaseException as error:  # Flower would wrap it: it is raised again below
            outcome.append(error)

    stop = threading.Event()
    server_app = make_server_app(guarded, sites, _TIMEOUT_SECONDS, stop.is_set)
    try:
        kind = actors.launch.place().type
        own = replace(actors, launch=replace(actors.launch, device=kind))  # Ray numbers an actor's GPU anew
        gpus = 1 / sites if kind == "cuda" else 0.0
        _simulate(server_app, make_client_app(partial(_answer, own)), sites, gpus)
    finally:
        stop.set()  # after Ctrl-C Flower leaves the course waiting in a thread, for which Python would wait
    if not outcome:
        raise RoundError("Flower's simulation ended without a result: resume the run, or use --engine loop")
    result = outcome[0]
    if isinstance(result, BaseException):
        raise result
    return result


def _simulate(server_app: object, client_app: object, sites: int, gpus: float) -> None:
    """Each site has a core and this share of a GPU, without which Ray hides the GPU from it."""
    from flwr.simulation import run_simulation

    backend = {
        "client_resources": {"num_cpus": 1, "num_gpus": gpus},
        "init_args": {"include_dashboard": False, "log_to_driver": False},
    }
    logging.getLogger("flwr").setLevel(logging.CRITICAL)  # what concerns a person, refusals say
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_simulation(
            server_app=server_app,
            client_app=client_app,
            num_supernodes=sites,
            backend_config=backend,
        )


def _answer(actors: Actors, context: "Context", request: Asked) -> Update | StageReply:
    """In an actor: the site of this node answers; its worker stays warm between messages."""
    if not isinstance(request, Request):
        raise UpdateError("a simulated site has approved its run already: it takes no proposals")
    worker = _worker(actors, int(context.node_config["partition-id"]))
    return worker.answer(request) if request.secure is None else _take_part(worker, context, request)


def _take_part(worker: SiteWorker, context: "Context", request: Request) -> Update | StageReply:
    """A stage of a secure sum. Any actor may get the next one, so the session stays in the node's context.

    That is in the memory of this simulation. A hospital's own process keeps its sessions to itself.
    """
    from flwr.app import ConfigRecord

    records = context.state.config_records
    kept: Kept = {str(k): str(v) for k, v in records[_SUMS].items()} if _SUMS in records else {}
    answer = worker.take_part(request, kept)
    context.state[_SUMS] = ConfigRecord(dict(kept))
    return answer


@lru_cache(maxsize=64)
def _worker(actors: Actors, index: int) -> SiteWorker:
    run = RunFolder.open(actors.run)
    study = run.study()
    site = open_sites(study, run, actors.launch)[index]
    ledger = open_ledger(study, run, actors.launch, site.name)
    return make_worker(study, run, site, ledger, actors.random_for, actors.launch.place())
