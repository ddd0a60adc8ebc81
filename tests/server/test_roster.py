"""What a coordinator reads of a site's public facts."""

from dataclasses import asdict
from typing import Any

import pytest

from medgan_core.data.source import Card
from medgan_core.errors import UpdateError
from server.roster import read_card

CARD = Card("x", ("normal", "pneumonia"), (1, 28, 28), "OT", "patient", public=False, channels=("a",))


def test_a_card_survives_the_way() -> None:
    assert read_card("here", asdict(CARD)) == CARD
    assert read_card("here", {**asdict(CARD), "image_shape": [1, 28, 28]}) == CARD


@pytest.mark.parametrize(
    "change",
    [
        {"source": 5},
        {"licence": None},
        {"name": ["x"]},
        {"modality": 1.0},
        {"public": "no"},
        {"image_shape": [1, 28]},
        {"image_shape": [1, "28", 28]},
        {"image_shape": [True, 28, 28]},
        {"classes": [1, 2]},
        {"classes": 5},
        {"channels": [None]},
        {"unit": "hospital"},
        {"unit": ["patient"]},
        {"patients": 100},
    ],
)
def test_a_card_with_a_value_of_another_type_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UpdateError, match="here: its card cannot be read"):
        read_card("here", asdict(CARD) | change)
