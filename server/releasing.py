"""A finished run's release, and how it leaves the coordinator: checked, or with a person's word."""

import shutil
from collections.abc import Callable
from pathlib import Path

from medgan_core.errors import InputError
from medgan_core.record import RunFolder
from medgan_core.release.check.policy import Policy
from medgan_core.release.check.result import CheckResult
from medgan_core.release.check.run import check_release, demand
from medgan_core.release.files import MANIFEST
from medgan_core.release.swap import swapped_in
from medgan_core.release.verify import verify_release
from server.folder import CoordinatorFolder
from server.run_file import RunFiles


def finished(folder: CoordinatorFolder, name: str) -> RunFolder:
    """A run that has a release. InputError where there is none yet."""
    run = folder.run(name)
    if not (run.release / MANIFEST).is_file():
        state = RunFiles(run).standing.state
        raise InputError(f"RUN {name} is {state}: there is a release when it is finished")
    return run


def release(
    folder: CoordinatorFolder,
    name: str,
    out: Path,
    policy: Policy,
    accepted: str,
    told: Callable[[CheckResult], object],
) -> str:
    """Check the release of a run and copy it to the new folder `out`; what it promises.

    Raises MedGANError for a release that fails the check, RefusedError for one that is inconclusive and that
    nobody accepted, InputError where `out` is not empty.
    """
    run = finished(folder, name)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"DIR {out.name} is not empty: choose a new folder for the release")
    found = check_release(run.release, policy, folder.signing_key(), accepted)
    told(found)
    demand(found)
    verified = verify_release(run.release)
    with swapped_in(out) as part:
        shutil.copytree(run.release, part, dirs_exist_ok=True)
    return f"epsilon {verified.epsilon:.4g}" if verified.privacy == "dp" else "NOT PRIVATE"
