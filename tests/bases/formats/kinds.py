"""One small dictionary of every kind, with decoder rows of any norm and biases that matter."""

from typing import Any

import torch

from cutaway.bases import Origin
from cutaway.bases.dictionaries import Dictionary

D, WIDTH, OUT, K = 6, 10, 4, 3
ORIGIN = Origin("net", "f" * 64, "layers.3.mlp_out", "layers.3.mlp_out", "s" * 64, 5, "0.1.0")
ACROSS = Origin("net", "f" * 64, "layers.3.mlp_in", "layers.3.mlp_out")
KINDS = ("relu", "gated", "topk", "batchtopk", "jumprelu", "matryoshka")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def dictionary(
    kind: str,
    *,
    d_out: int = D,
    untied: bool = False,
    skip: bool = False,
    origin: Origin | None = ORIGIN,
    one_threshold: bool | None = None,
    name: str = "",
) -> Dictionary:
    thresholded = kind in ("batchtopk", "jumprelu", "matryoshka")
    one = kind != "jumprelu" if one_threshold is None else one_threshold
    extras: dict[str, Any] = {
        "b_in": drawn(D, seed=3) if untied or d_out != D else None,
        "skip": drawn(d_out, D, seed=4) if skip else None,
        "threshold": (torch.full((WIDTH,), 0.7) if one else drawn(WIDTH, seed=5).abs()) if thresholded else None,
        "gate_bias": drawn(WIDTH, seed=6) if kind == "gated" else None,
        "gate_scale": 0.3 * drawn(WIDTH, seed=7) if kind == "gated" else None,
        "k": K if kind in ("topk", "batchtopk", "matryoshka") else None,
    }
    weights = drawn(WIDTH, D), 0.2 * drawn(WIDTH, seed=1), drawn(WIDTH, d_out, seed=8), drawn(d_out, seed=2)
    return Dictionary(kind, *weights, name=name or f"{kind}-test", origin=origin, **extras)


def acts(rows: int = 200) -> torch.Tensor:
    return 2 * drawn(rows, D, seed=9) + 0.5
