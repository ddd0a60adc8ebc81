"""The head of card.md that Hugging Face's tools read: YAML between two lines of dashes.

https://huggingface.co/docs/hub/model-cards#model-card-metadata. Values are JSON, which YAML contains.
"""

import json
from collections.abc import Mapping

from medgan_core.release.card import ReleaseCard

_PIPELINES: Mapping[str, str] = {
    "segmentation": "image-segmentation",
    "restoration": "image-to-image",
    "translation": "image-to-image",
    "anomaly": "image-to-image",
}
_DRAWS = "unconditional-image-generation"


def front_matter(card: ReleaseCard) -> str:
    """The lines from `---` to `---`, and a newline."""
    fields = {
        "license": card.licence,
        "library_name": "medgan-federated",
        "pipeline_tag": _PIPELINES.get(card.task, _DRAWS),
        "tags": _tags(card),
    }
    notice = [] if card.private else ["# NOT PRIVATE: trained without differential privacy"]
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items()]
    return "\n".join(["---", *notice, *lines, "---", ""])


def _tags(card: ReleaseCard) -> list[str]:
    return [
        "medical",
        "synthetic-data",
        "generative-adversarial-network",
        "federated-learning",
        "differential-privacy" if card.private else "not-private",
        "not-for-diagnosis",
        f"modality:{card.data.modality}",
        f"study:{card.study}",
    ]
