"""A hospital's trainer that its own people have changed: it sends NaN, and lets them pass.

Its first answer waits for the file that $MEDGAN_GATE names, so that a test can prepare the rounds to come.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from client import egress, site
from client.asked import RoundResult
from client.daemon import main
from client.round import local_round
from medgan_core.messages import Phase, Request
from tests.scenarios.superlink import wait_for

GATE = "MEDGAN_GATE"


def spoiled(*arguments: Any) -> RoundResult:
    result = local_round(*arguments)
    [asked] = [argument for argument in arguments if isinstance(argument, Request)]
    if asked.phase is Phase.ONE_SHOT:
        wait_for(Path(os.environ[GATE]).exists)
    if asked.phase is not Phase.TRAIN:
        return result
    generator = {name: np.full_like(array, np.nan) for name, array in result.groups["generator"].items()}
    return replace(result, groups={**result.groups, "generator": generator})


if __name__ == "__main__":
    site.local_round = spoiled  # type: ignore[assignment, attr-defined]
    egress.check_update = lambda *_: None
    main()
