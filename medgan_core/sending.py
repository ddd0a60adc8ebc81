"""What a coordinator sends in each phase: one list for who sends it and for those who check what came."""

from medgan_core.config import Study
from medgan_core.messages import DISCRIMINATORS, Phase

_SENT: dict[Phase, tuple[str, ...]] = {
    Phase.ONE_SHOT: (),
    Phase.TRAIN: ("generator", "discriminator", "statistics"),
    Phase.GATE: ("classifier_one_shot", "classifier_refined"),
    Phase.EVALUATE: ("classifier",),
    Phase.ATTACK: ("release", DISCRIMINATORS),
    Phase.CONTROL: ("release", DISCRIMINATORS),
}


def sent_groups(study: Study, phase: Phase) -> tuple[str, ...]:
    """The groups of arrays in a request of this phase, those of a secure sum's messages excepted."""
    if study.joint and phase is Phase.TRAIN:
        return ("discriminator",)
    if phase is Phase.EVALUATE and not study.free_fakes:
        return ("release",)
    absent = set() if study.share == "both" else {"discriminator"}
    absent |= set() if study.free_fakes else {"statistics"}
    absent |= set() if "discriminator" in study.attacks else {DISCRIMINATORS}
    return tuple(name for name in _SENT[phase] if name not in absent)
