"""What PS3.3 demands of an image, from highdicom's copy of its tables: a check that needs no program."""

from collections.abc import Iterator

from highdicom._standard_utils import (
    get_iod_module_map,
    get_module_attribute_map,
    get_sop_class_iod_map,
)
from pydicom import Dataset


def missing(dataset: Dataset) -> list[str]:
    """Attributes of type 1 that are absent or empty, and of type 2 that are absent, in mandatory modules."""
    return sorted(
        {str(attribute["keyword"]) for attribute in _demanded(dataset) if _lacks(dataset, attribute)}
    )


def _demanded(dataset: Dataset) -> Iterator[dict[str, object]]:
    modules, attributes = get_iod_module_map(), get_module_attribute_map()
    for module in modules[get_sop_class_iod_map()[dataset.SOPClassUID]]:
        if module["usage"] == "M":
            for attribute in attributes[module["key"]]:
                if not attribute["path"] and attribute["type"] in ("1", "2"):
                    yield attribute


def _lacks(dataset: Dataset, attribute: dict[str, object]) -> bool:
    keyword = str(attribute["keyword"])
    if keyword not in dataset:
        return True
    return attribute["type"] == "1" and dataset[keyword].is_empty
