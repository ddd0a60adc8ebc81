"""A simulation from study to release: approve, run the rounds on one of two engines, judge, release."""

import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from client.site import RandomFor, SiteWorker
from medgan_core.config import Study
from medgan_core.data.source import Site
from medgan_core.errors import BudgetError, InputError, IntegrityError, MedGANError, RefusedError
from medgan_core.privacy.ledger import PrivacyLedger
from medgan_core.record import RunFolder, read_json, write_json
from server.exchange import Exchange
from server.planning import decided
from server.rounds import federate
from server.state import FederationState, initial_state, phase_of
from simulations.hospitals import (
    Launch,
    keep_heads,
    make_worker,
    open_ledger,
    open_sites,
    pin,
    pinned,
    secret_random,
)
from simulations.loop import Course, loop_engine
from simulations.outcome import finish
from simulations.progress import Progress, Silent

_LAUNCH = "launch.json"
LEDGERS = "ledger.json"


@dataclass(frozen=True, eq=False)
class Federation:
    """A run with its sites at hand: everything that both engines need."""

    study: Study
    run: RunFolder
    launch: Launch
    sites: tuple[Site, ...]
    ledgers: tuple[PrivacyLedger, ...]
    workers: tuple[SiteWorker, ...]
    random_for: RandomFor


def run_study(
    study: Study,
    out: Path,
    launch: Launch | None = None,
    progress: Progress | None = None,
    random_for: RandomFor = secret_random,
) -> RunFolder:
    """Run a study to its release in a new folder below `out`, which is returned.

    Raises InputError (study or data; no folder is left) and RefusedError (a site's cap; no hold is left, and
    the folder keeps the name from being used again) before anything is trained; RoundError later, with a
    note that says how to go on.
    """
    launch = launch or Launch()
    launch.check()
    study = decided(study)
    run = RunFolder.create(out, study)
    write_json(run.path / _LAUNCH, {"run": run.name, **asdict(launch)})
    try:
        _go(study, run, launch, progress or Silent(), random_for)
    except (InputError, IntegrityError):
        if not (run.path / LEDGERS).exists():  # not approved yet, so nothing was held or charged
            shutil.rmtree(run.path)
        raise
    return run


def resume_run(
    path: Path, progress: Progress | None = None, random_for: RandomFor = secret_random
) -> RunFolder:
    """Go on with a run from its last kept state; a run that is done is left as it is.

    Raises InputError for a folder that is no run or was renamed, beside what `run_study` raises.
    """
    run = RunFolder.open(path.resolve())
    if not (run.release / "manifest.json").is_file():
        launch = _launch_of(run)
        launch.check()
        _go(run.study(), run, launch, progress or Silent(), random_for)
    return RunFolder(path)


def abandon_run(path: Path) -> RunFolder:
    """Give up a run: what its sites still hold for it is free again, what was charged stays charged.

    Raises InputError for a folder that is no run or was renamed. The run cannot be resumed afterwards.
    """
    run = RunFolder.open(path.resolve())
    study, launch = run.study(), _launch_of(run)
    with ExitStack() as stack:
        sites = open_sites(study, run, launch)
        for site in sites:
            with suppress(RefusedError):  # a site that never approved it holds nothing
                stack.enter_context(open_ledger(study, run, launch, site.name)).close_run(run.name)
    return RunFolder(path)


def _launch_of(run: RunFolder) -> Launch:
    body = read_json(run.path / _LAUNCH)
    try:
        name = body.pop("run")
        launch = Launch(**body)
    except (AttributeError, KeyError, TypeError) as error:
        raise IntegrityError(f"{_LAUNCH} of run {run.name} is damaged: start a new run") from error
    if name != run.name:
        raise InputError(f"run {name}: its folder is called {run.name} now; rename it back, then resume")
    return launch


def _go(study: Study, run: RunFolder, launch: Launch, progress: Progress, random_for: RandomFor) -> None:
    began = time.monotonic()
    progress.say("reading images and opening ledgers")
    with ExitStack() as stack:
        stack.enter_context(_resumable(run))
        sites = open_sites(study, run, launch, progress.say)
        ledgers = tuple(stack.enter_context(open_ledger(study, run, launch, site.name)) for site in sites)
        pin(study, run, sites)
        workers = tuple(
            make_worker(study, run, site, ledger, random_for, launch.place())
            for site, ledger in zip(sites, ledgers, strict=True)
        )
        federation = Federation(study, run, launch, sites, ledgers, workers, random_for)
        state = _state_of(federation)
        if phase_of(study, state.round) is not None:
            _approve(federation)
            with _accounted(federation):
                state = _run_rounds(federation, state, progress)
        for ledger in ledgers:  # before the release, which marks the end: no hold outlives a finished run
            ledger.close_run(run.name)
        _keep_ledgers(federation)
        progress.say("judging the generator and writing the release")
        finish(study, run, sites, workers, state, seconds=time.monotonic() - began, device=launch.place())


@contextmanager
def _resumable(run: RunFolder) -> Iterator[None]:
    """Note on whatever ends the run early how to go on with it, unless no site has approved it yet."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or (run.path / LEDGERS).exists():
            error.add_note(f"go on with: medgan-sim resume {shlex.quote(str(run.path))}")
        raise


@contextmanager
def _accounted(federation: Federation) -> Iterator[None]:
    """Export the ledgers of a run that fails or is interrupted: what was charged by then is on record."""
    try:
        yield
    except BaseException:
        with suppress(MedGANError):  # what ended the run says more than that this failed too
            _keep_ledgers(federation)
        raise


def _approve(federation: Federation) -> None:
    """Have every site reserve the run's cost. One refusal, and the sites that had agreed free it again."""
    try:
        for worker in federation.workers:
            worker.approve()
    except BudgetError:
        for ledger in federation.ledgers:
            with suppress(RefusedError):  # no hold at the sites that were not asked yet
                ledger.close_run(federation.run.name)
        raise
    _keep_ledgers(federation)


def _keep_ledgers(federation: Federation) -> None:
    """The heads of the ledgers, and their export.

    Written after approval and at every end but a kill, not after each round: an export asks an accountant
    for every account, and until then the ledgers themselves are the record.
    """
    keep_heads(federation.run, federation.launch, federation.ledgers)
    pairs = zip(federation.sites, federation.ledgers, strict=True)
    write_json(federation.run.path / LEDGERS, {site.name: ledger.export() for site, ledger in pairs})


def _state_of(federation: Federation) -> FederationState:
    """The newest kept state, else the initial one."""
    study, run, sites = federation.study, federation.run, federation.sites
    kept = run.latest_state()
    if kept is None:
        return initial_state(study, federation.workers[0].task, run.name, [site.name for site in sites])
    state = FederationState.restore(*kept)
    run.write_rounds(state.history)  # it may have ended between the two
    return state


def _run_rounds(federation: Federation, state: FederationState, progress: Progress) -> FederationState:
    study, run, worker = federation.study, federation.run, federation.workers[0]
    progress.begin(study, done=state.round)
    done = state.round

    def keep(latest: FederationState) -> None:
        nonlocal done
        run.save_state(latest.round, latest.groups, latest.header())
        run.write_rounds(latest.history)
        keep_heads(run, federation.launch, federation.ledgers)
        if latest.round > done:  # else a round failed, and is still to be done
            done = latest.round
            progress.finished(latest.history[-1])

    def course(exchange: Exchange) -> FederationState:
        return federate(
            study,
            worker.task,
            worker.plan,
            state,
            progress.watch(exchange),
            keep=keep,
            refused=progress.refused,
            cohort=pinned(study, run),
            spill=run.arrivals,
            device=federation.launch.place(),
        )

    with progress:
        return _through_engine(federation, course)


def _through_engine(federation: Federation, course: Course) -> FederationState:
    if federation.launch.engine == "loop":
        return loop_engine(federation.workers, course)
    # Flower takes seconds to import, and the loop does without it.
    from simulations.flower import Actors, flower_engine

    actors = Actors(federation.run.path.resolve(), federation.launch, federation.random_for)
    return flower_engine(actors, len(federation.sites), course)
