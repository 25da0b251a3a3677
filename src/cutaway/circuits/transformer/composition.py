"""How strongly a head reads what an earlier head writes, from weights: Q-, K- and V-composition.

    |A B|_F / (|A|_F |B|_F),   B = W_OV of the writer,   A = W_QK' (Q), W_QK (K), W_OV (V) of the reader

(Elhage et al. 2021). All maps are low-rank, so |A B|^2 = trace(F C G C') with d_head x d_head matrices: F and G are
Gram matrices of the outer factors, C what the reader's inner factor makes of the writer's.

Baseline: the same two heads with a random rotation of the stream between them (Haar). Its mean square is 1 / d_model,
whatever the heads are; the spread depends on their singular values, and |A Q B|^2 = a' (Z * Z) b, with Z a corner of a
random orthogonal matrix and a, b squared singular values, so that draws cost next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.quadratic import Quadratic
from cutaway.circuits.transformer.forms import head_names, ov_form, qk_form
from cutaway.errors import BadInput, NotTestable
from cutaway.evidence.measurement import Measurement
from cutaway.evidence.permutation import familywise_p
from cutaway.networks.anatomy import anatomy
from cutaway.networks.network import Network

Kind = Literal["Q", "K", "V"]
DRAWS = 199


@dataclass(frozen=True)
class Composition:
    """One writer seen by one reader. ``score`` is in [0, 1]; p is corrected over the writers asked about together."""

    reader: tuple[int, int]
    writer: tuple[int, int]
    kind: Kind
    score: Measurement


def composition_score(reader: Quadratic, writer: Quadratic, kind: Kind) -> float:
    """|A B| / (|A| |B|) for two forms: ``reader`` is a QK form for Q and K, an OV form for V; 0 if either is 0."""
    near, far = _sides(reader, kind)
    core = near @ writer.left.T
    square = torch.einsum("ij,jk,kl,il->", far @ far.T, core, writer.right @ writer.right.T, core)
    scale = reader.norm() * writer.norm()
    return float(square.clamp(min=0).sqrt()) / scale if scale > 0 else 0.0


def compositions(
    network: Network,
    layer: int,
    head: int,
    *,
    kinds: tuple[Kind, ...] = ("Q", "K", "V"),
    offset: int = 0,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Composition]:
    """All heads of earlier layers as writers for one reader, by kind, strongest above the baseline first.

    ``offset`` is the distance at which the reader's QK circuit is taken (rotary positions turn keys against queries).
    Raises ``NotTestable`` for networks whose stream is normed after each sum, and in the first layer.
    """
    if not anatomy(network).pre_norm:
        raise NotTestable(f"Composition was asked for; {network.name} norms its stream after each sum, as BERT does.")
    if draws < 19:
        raise BadInput(f"{draws} random rotations were asked for; take at least 19 for p = 0.05.")
    writers = [place for place in head_names(network) if place[0] < layer]
    if not writers:
        raise NotTestable(f"Head {layer}.{head} lies in the first layer: no head writes before it.")
    written = [ov_form(network, *place) for place in writers]
    energies = torch.stack([_energies(form) for form in written])
    found = []
    for kind in kinds:
        reader = ov_form(network, layer, head) if kind == "V" else qk_form(network, layer, head, offset=offset)
        scores = np.array([composition_score(reader, form, kind) for form in written])
        null = haar_null(_energies(reader), energies, int(reader.left.shape[1]), draws=draws, seed=seed)
        p = familywise_p(scores, null, alternative="greater")
        for index, writer in enumerate(writers):
            spread = float(null[:, index].std(ddof=1))
            value = Measurement(
                float(scores[index]), null_mean=float(null[:, index].mean()), null_std=spread, p=float(p[index]),
                n=draws, seed=seed,
            )  # fmt: skip
            found.append(Composition((layer, head), writer, kind, value))
    return sorted(found, key=lambda each: -(each.score.value - each.score.null_mean))


def haar_null(
    reader: Float[Tensor, " rank"], writers: Float[Tensor, "writer other_rank"], width: int, *, draws: int, seed: int
) -> Float[np.ndarray, "draw writer"]:
    """Scores under random rotations of a stream of ``width``, from squared singular values that sum to 1."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(draws):
        gaussian = torch.randn(width, writers.shape[1], generator=generator, dtype=torch.float64)
        frame, triangle = torch.linalg.qr(gaussian)
        corner = (frame * triangle.diagonal().sign())[: len(reader)]
        rows.append((writers.cpu().double() @ corner.T.square() @ reader.cpu().double()).sqrt())
    return torch.stack(rows).numpy()


def _energies(form: Quadratic) -> Float[Tensor, " rank"]:
    """Squared singular values, scaled to sum to 1."""
    squares = form.spectrum().values.square()
    return squares / squares.sum().clamp(min=1e-30)


def _sides(reader: Quadratic, kind: Kind) -> tuple[Tensor, Tensor]:
    """The factor that meets the writer's output, and the other one."""
    return (reader.left, reader.right) if kind == "Q" else (reader.right, reader.left)
