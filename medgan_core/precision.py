"""Which passes through a network run in bfloat16."""

import torch

from medgan_core.config import Precision


def halves(precision: Precision, device: torch.device) -> bool:
    """Whether the passes run in bfloat16 on this device; `auto` asks the device whether it gains by it."""
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    features = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return any(bool(features.get(feature)) for feature in ("avx512_bf16", "amx_bf16"))
