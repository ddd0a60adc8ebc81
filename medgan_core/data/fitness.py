"""Whether what a site holds is what a task works on: refused before training, with the site's name."""

from medgan_core.config import Study
from medgan_core.data.source import Site
from medgan_core.data_config import MASK
from medgan_core.errors import DataError


def check_site(study: Study, site: Site) -> None:
    """Raises DataError that names the site and what it lacks."""
    missing = _missing(study, site)
    if missing:
        raise DataError(f"site {site.name}: task {study.task} needs {missing}")


def _missing(study: Study, site: Site) -> str:
    """What a site lacks, beside what it has; "" where it lacks nothing."""
    card = site.training.card
    channels = card.image_shape[0]
    shown = (
        f"its images have {channels} ({', '.join(card.channels)})" if card.channels else f"it has {channels}"
    )
    masked = channels > 1 and (not card.channels or card.channels[-1] == MASK)
    by_task = {
        "segmentation": "" if masked else f"a mask as the last channel; {shown}",
        "translation": "" if channels == 2 else f"two channels, from and to; {shown}",
        "multimodal": "" if channels > 1 else "two registered modalities or more; it has one",
        "volume": "" if channels > 1 else "volumes, data.depth; it has single slices",
        "anomaly": _missing_classes(study, site),
    }
    return by_task.get(study.task, "")


def _missing_classes(study: Study, site: Site) -> str:
    """The normal class to train on, and an abnormal one to tell from it."""
    classes = site.training.card.classes
    if len(classes) < 2:
        return f"two classes; it has {', '.join(classes)} alone"
    normal = study.mapping.normal or classes[0]
    if normal not in classes:
        return f"the normal class {normal}; it has {', '.join(classes)}"
    here = bool((site.training.labels == classes.index(normal)).any())
    return "" if here else f"images of the normal class, {normal}, to train on; it has none"
