"""The planner at work on a study: its advice, and the study that follows it. Reads no data."""

from medgan_core.config import Study
from medgan_core.gan.tasks import make_task
from medgan_core.privacy.joint_time import check_time
from medgan_core.privacy.planner import Advice, advise
from medgan_core.seeds import Seeds
from medgan_core.tensors import initial_discriminator


def advice(study: Study) -> Advice:
    """What the planner says of a study; raises ConfigError as it does."""
    asked = study.data
    task = make_task(study, asked.image_shape, asked.classes)
    network = initial_discriminator(task, Seeds(study.seed))
    return advise(study, sum(p.numel() for p in network.parameters()))


def decided(study: Study) -> Study:
    """The study with a strategy: where it says "auto", the one that the planner recommends.

    Where only the data know the classes the planner cannot tell, and the rounds are done.

    Raises ConfigError for joint steps that would take longer than the study allows.
    """
    check_time(study)
    if study.strategy != "auto":
        return study
    if not study.free_fakes:  # no query to fall back on
        return study.model_copy(update={"strategy": "refine"})
    strategy = advice(study).strategy if study.data.classes else "refine"
    return study.model_copy(
        update={"strategy": strategy, "rounds": study.rounds if strategy == "refine" else 0}
    )
