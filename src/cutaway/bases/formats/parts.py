"""A dictionary as plain tensors: what every format is read into and written from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutaway.bases.basis import Origin
from cutaway.bases.dictionaries import Dictionary
from cutaway.bases.formats.checked import text
from cutaway.errors import BadInput
from cutaway.networks.files.reading import bad_file

#: Kinds whose codes are what is above a threshold.
THRESHOLDED = ("jumprelu", "batchtopk", "matryoshka")
#: The optional vectors and matrices of a dictionary.
EXTRAS = ("skip", "threshold", "gate_bias", "gate_scale")


@dataclass(frozen=True, eq=False)
class Parts:
    """The tensors of a dictionary in cutaway's layout, detached; ``b_in`` None: it is ``b_dec`` (an SAE)."""

    kind: str
    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    b_in: Tensor | None = None
    skip: Tensor | None = None
    threshold: Tensor | None = None
    gate_bias: Tensor | None = None
    gate_scale: Tensor | None = None
    k: int | None = None
    name: str = ""
    origin: Origin | None = None

    @property
    def subtracted(self) -> Tensor:
        """What is taken from the input before the encoder."""
        return self.b_dec if self.b_in is None else self.b_in

    @property
    def transcodes(self) -> bool:
        """True for what computes one site from another."""
        replaces = self.origin is not None and self.origin.replaces
        return replaces or self.skip is not None or self.W_enc.shape[1] != self.W_dec.shape[1]

    def subtracting(self, other: Tensor | None) -> Parts:
        """The same dictionary with ``other`` (None: ``b_dec``) taken from the input, its biases making up for it:
        ``(x - b) W' + c = (x - b') W' + c + (b' - b) W'``.
        """
        target = self.b_dec if other is None else other
        shift = self.W_enc.double() @ (target.double() - self.subtracted.double())
        gated = self.gate_scale is not None
        scale = self.gate_scale.double().exp() if self.gate_scale is not None else 1.0
        return replace(
            self,
            b_in=other,
            b_enc=(self.b_enc.double() + scale * shift).to(self.b_enc),
            gate_bias=(self.gate_bias.double() + shift).to(self.gate_bias) if gated and self.gate_bias is not None
            else self.gate_bias,
        )  # fmt: skip

    def with_unit_choice(self) -> Parts:
        """Decoder rows of norm 1, the norms moved into encoder, biases and thresholds: codes are multiplied by them.

        For what selects by pre-activation times decoder norm, which then selects the same.
        """
        norms = torch.linalg.vector_norm(self.W_dec, dim=1).clamp(min=1e-8)
        return replace(
            self, W_enc=self.W_enc * norms[:, None], b_enc=self.b_enc * norms, W_dec=self.W_dec / norms[:, None]
        )

    def dictionary(self) -> Dictionary:
        """The basis, in float32."""
        weights = [getattr(self, name).float().contiguous() for name in ("W_enc", "b_enc", "W_dec", "b_dec")]
        rest = {name: getattr(self, name) for name in ("b_in", *EXTRAS)}
        extras = {name: value.float().contiguous() for name, value in rest.items() if value is not None}
        made = Dictionary(self.kind, *weights, **extras, k=self.k, name=self.name, origin=self.origin)
        return made.requires_grad_(False)


def parts_of(basis: Any, format_name: str) -> Parts:
    """A dictionary taken apart; ``BadInput`` for a basis of another type."""
    if not isinstance(basis, Dictionary):
        raise BadInput(
            f"The {format_name} format holds dictionaries and a {type(basis).__name__} was given; save it in cutaway's "
            "own format."
        )
    tensors = {name: getattr(basis, name) for name in ("W_enc", "b_enc", "W_dec", "b_dec", *EXTRAS)}
    plain = {name: value.detach().cpu() for name, value in tensors.items() if value is not None}
    b_in = None if basis.tied else basis.b_in.detach().cpu()
    return Parts(basis.kind, **plain, b_in=b_in, k=basis.k, name=basis.name, origin=basis.origin)


def about(parts: Parts) -> dict[str, Any]:
    """What the foreign formats have no place for; written beside their own fields under ``cutaway``."""
    origin = None if parts.origin is None else parts.origin.to_json()
    return {"name": parts.name, "kind": parts.kind, "k": parts.k, "origin": origin}


def origin_from(path: Path, said: Any) -> Origin | None:
    """An origin that a description gives; raises ``BadFile``."""
    if said is None:
        return None
    if not isinstance(said, Mapping):
        raise bad_file(path, f"gives the origin as {str(said)[:40]!r}, which is no object")
    seed = said.get("seed", 0)
    texts = {name: text(path, said, name) for name in ("network", "fingerprint", "reads", "writes", "stimuli")}
    if not texts["reads"] or not texts["writes"] or type(seed) is not int:
        raise bad_file(path, "gives an origin without its sites or with a seed that is no integer")
    return Origin(**texts, seed=seed, version=text(path, said, "version"))


def restored(path: Path, parts: Parts, said: Mapping[str, Any]) -> Parts:
    """``parts`` with the name, the kind and the origin that cutaway wrote beside it, where they go together."""
    kind = text(path, said, "kind", parts.kind)
    k = parts.k if parts.k is not None else said.get("k")
    if kind != parts.kind and not {kind, parts.kind} <= set(THRESHOLDED):
        raise bad_file(path, f"calls a {parts.kind} dictionary {kind[:40]!r}")
    if k is not None and type(k) is not int:
        raise bad_file(path, f"gives k as {str(k)[:40]!r}, which is no number")
    origin = origin_from(path, said.get("origin")) or parts.origin
    return replace(parts, kind=kind, k=k, name=text(path, said, "name") or parts.name, origin=origin)
