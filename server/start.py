"""A new run: its study resolved, its sites chosen, its folder made. `up` does the rest."""

from collections.abc import Sequence
from pathlib import Path

from medgan_core.config import load_study
from medgan_core.errors import InputError
from medgan_core.privacy.joint_time import check_time
from medgan_core.record import RunFolder, write_json
from server.enrolment import enrolled
from server.folder import CoordinatorFolder
from server.run_file import SITES, RunFiles


def start(
    folder: CoordinatorFolder, study: Path, sites: Sequence[str] = (), overrides: Sequence[str] = ()
) -> RunFolder:
    """Make the folder of a run of this study at these sites, by default at all that are enrolled.

    The order of `sites` is that of the study's weights. Raises InputError for a study, sites that are not
    enrolled, or another number of them than the study has.
    """
    known = enrolled(folder)
    chosen = list(sites) or list(known)
    if missing := [name for name in chosen if name not in known]:
        raise InputError(
            f"--sites {','.join(missing)}: not enrolled; enrolled are {', '.join(known) or 'none'}"
        )
    if len(set(chosen)) != len(chosen):
        raise InputError(f"--sites {','.join(chosen)}: every site once")
    asked = load_study(study, overrides)
    if asked.sites.count != len(chosen):
        raise InputError(
            f"sites.count = {asked.sites.count}, but the run has {len(chosen)} sites: choose them with "
            f"--sites, or give --set sites.count={len(chosen)}"
        )
    if not asked.data.classes:
        raise InputError("data.classes = []: name the classes; sites map their own labels to them")
    if asked.strategy == "auto":
        from server.planning import decided  # loads torch, which takes seconds

        asked = decided(asked)
    check_time(asked)
    run = RunFolder.create(folder.runs, asked)
    write_json(run.path / SITES, chosen)
    RunFiles(run).stand("proposing", "waits for medgan-server up")
    return run


def resume(folder: CoordinatorFolder, name: str) -> RunFolder:
    """Have a run go on that is paused or failed. InputError where it is over, or going on already."""
    run = folder.run(name)
    files = RunFiles(run)
    state = files.standing.state
    if state in ("finished", "stopped") or files.stop_wanted:
        raise InputError(f"RUN {name} is {state}: start a new one")
    if state in ("proposing", "running"):
        raise InputError(f"RUN {name} is {state} already: medgan-server watch {name}")
    files.forget_submission()
    files.stand("proposing", "is resumed")
    return run


def stop(folder: CoordinatorFolder, name: str) -> RunFolder:
    """Have a run end for good; its sites free what they hold for it. InputError where it is over."""
    run = folder.run(name)
    files = RunFiles(run)
    if files.standing.state in ("finished", "stopped"):
        raise InputError(f"RUN {name} is {files.standing.state} already")
    if files.standing.state not in ("proposing", "running"):
        files.forget_submission()
    files.want_stop()
    return run
