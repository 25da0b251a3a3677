"""Directions and an encoder that says how much of each is there: SAEs and transcoders of every kind."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cutaway.bases.basis import Origin, SparseCodes
from cutaway.bases.dictionaries.kind import DICTIONARIES, Kind
from cutaway.bases.dictionaries.select import largest_per_row
from cutaway.errors import BadInput


class Dictionary(nn.Module):
    """Codes ``act((acts - b_in) W_enc' + b_enc)``; writes ``codes W_dec + b_dec`` (+ ``acts skip'``).

    ``b_in`` None ties it to ``b_dec`` (SAEs: one parameter under two names). ``threshold``: codes at or below it are 0
    (batchtopk, matryoshka, jumprelu). ``gate_bias`` and ``gate_scale``: the gate's bias b_g and the log r of the
    magnitudes' scale (gated). Rows of ``W_dec`` have unit norm when trained here; loaded ones may have others.
    Shapes are those of the attributes below. Raises ``BadInput`` for shapes that do not fit, k beyond the width, or
    what the kind needs and did not get.
    """

    W_enc: Float[Tensor, "latent d_in"]
    b_enc: Float[Tensor, " latent"]
    W_dec: Float[Tensor, "latent d_out"]
    b_dec: Float[Tensor, " d_out"]
    b_in: Float[Tensor, " d_in"]
    skip: Float[Tensor, "d_out d_in"] | None
    threshold: Float[Tensor, " latent"] | None
    gate_bias: Float[Tensor, " latent"] | None
    gate_scale: Float[Tensor, " latent"] | None

    def __init__(
        self,
        kind: str,
        W_enc: Tensor,
        b_enc: Tensor,
        W_dec: Tensor,
        b_dec: Tensor,
        *,
        b_in: Tensor | None = None,
        skip: Tensor | None = None,
        threshold: Tensor | None = None,
        gate_bias: Tensor | None = None,
        gate_scale: Tensor | None = None,
        k: int | None = None,
        name: str = "",
        origin: Origin | None = None,
    ) -> None:
        super().__init__()
        self.kind, self.k, self.origin = kind, k, origin
        self.rule: type[Kind] = DICTIONARIES[kind]
        self.name = name or f"{kind}-{len(W_enc)}"
        self.W_enc, self.b_enc = nn.Parameter(W_enc), nn.Parameter(b_enc)
        self.W_dec, self.b_dec = nn.Parameter(W_dec), nn.Parameter(b_dec)
        self.b_in = self.b_dec if b_in is None else nn.Parameter(b_in)
        self.skip = None if skip is None else nn.Parameter(skip)
        for extra, value in (("threshold", threshold), ("gate_bias", gate_bias), ("gate_scale", gate_scale)):
            if value is not None and extra in self.rule.learned:
                self.register_parameter(extra, nn.Parameter(value))
            else:
                self.register_buffer(extra, value)
        self._check()

    @property
    def width(self) -> int:
        """Number of latents."""
        return int(self.W_enc.shape[0])

    @property
    def d_in(self) -> int:
        """Width of what is read."""
        return int(self.W_enc.shape[1])

    @property
    def d_out(self) -> int:
        """Width of what is written."""
        return int(self.W_dec.shape[1])

    @property
    def tied(self) -> bool:
        """True where what is subtracted before the encoder is the decoder's bias."""
        return self.b_in is self.b_dec

    def pre(self, acts: Float[Tensor, "row d_in"]) -> Float[Tensor, "row latent"]:
        """Pre-activations of every latent."""
        return (acts - self.b_in) @ self.W_enc.T + self.b_enc

    def encode(self, acts: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows latent"]:
        """How much of each latent is there; raises ``BadInput`` for rows of another width."""
        return self.rule.encode(self, self._rows(acts)).reshape(*acts.shape[:-1], self.width)

    def decode(self, codes: Float[Tensor, "*rows latent"]) -> Float[Tensor, "*rows d_out"]:
        """What codes stand for."""
        return codes @ self.W_dec + self.b_dec

    def directions(self) -> Float[Tensor, "latent d_out"]:
        """What one unit of each latent writes."""
        return self.W_dec

    def reconstruct(self, acts: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_out"]:
        """What is left of acts (or, for a transcoder, what it makes of them), with the skip."""
        found = self.decode(self.encode(acts))
        return found if self.skip is None else found + acts @ self.skip.T

    def forward(self, acts: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_out"]:
        """Same as :meth:`reconstruct`."""
        return self.reconstruct(acts)

    @torch.no_grad()
    def sparse(self, acts: Float[Tensor, "*rows d_in"]) -> SparseCodes:
        """The active latents of each row, all leading axes as rows, without holding the dense codes of all rows."""
        rows = self._rows(acts)
        if self.kind == "topk":
            assert self.k is not None
            values, places = largest_per_row(rows - self.b_in, self.W_enc, self.b_enc, self.k)
            return SparseCodes(values.clamp(min=0), places, self.width)
        return _joined([_packed(self.rule.encode(self, part)) for part in rows.split(1024)], self.width)

    @torch.no_grad()
    def fold_scale(self, scale_in: float | int, scale_out: float | int) -> None:
        """From a dictionary of ``scale_in * x`` and ``scale_out * y`` to one of x and y, in place.

        Codes become what they were divided by ``scale_out``; decoder rows stay as they are.
        """
        self.W_enc.mul_(scale_in / scale_out)
        self.b_enc.div_(scale_out)
        self.b_dec.div_(scale_out)
        if not self.tied:
            self.b_in.div_(scale_in)
        if self.skip is not None:
            self.skip.mul_(scale_in / scale_out)
        for part in (self.threshold, self.gate_bias):
            if part is not None:
                part.div_(scale_out)

    @torch.no_grad()
    def unit_rows(self) -> None:
        """Gives every decoder row norm 1, in place, without looking at the codes."""
        self.W_dec.div_(torch.linalg.vector_norm(self.W_dec, dim=1, keepdim=True).clamp_(min=1e-12))

    def extra_repr(self) -> str:
        """What prints."""
        return f"{self.kind}, {self.d_in} -> {self.width} -> {self.d_out}, k={self.k}, name={self.name!r}"

    def _rows(self, acts: Tensor) -> Tensor:
        if acts.shape[-1] != self.d_in:
            raise BadInput(
                f"Rows of {acts.shape[-1]} units were given to the dictionary {self.name!r}, which reads {self.d_in}; "
                f"take the site that it was trained on."
            )
        return acts.reshape(-1, self.d_in)

    def _check(self) -> None:
        latents, d_in, d_out = self.width, self.d_in, self.d_out
        wanted: dict[str, tuple[int, ...]] = {
            "b_enc": (latents,), "W_dec": (latents, d_out), "b_dec": (d_out,), "b_in": (d_in,),
            "skip": (d_out, d_in), "threshold": (latents,), "gate_bias": (latents,), "gate_scale": (latents,),
        }  # fmt: skip
        for part, shape in wanted.items():
            value: Any = getattr(self, part)
            if value is not None and tuple(value.shape) != shape:
                raise BadInput(
                    f"{part} of the dictionary {self.name!r} has shape {tuple(value.shape)}; {shape} fits W_enc "
                    f"{tuple(self.W_enc.shape)} and W_dec {tuple(self.W_dec.shape)}."
                )
        if self.k is not None and not 1 <= self.k <= latents:
            raise BadInput(f"k = {self.k} active latents of {latents} were asked for; give 1 to {latents}.")
        lacking = [part for part in self.rule.extras if getattr(self, part) is None]
        lacking += ["k"] if self.kind == "topk" and self.k is None else []
        if lacking:
            raise BadInput(f"A {self.kind} dictionary needs {' and '.join(lacking)}; give them.")


def _packed(codes: Tensor) -> tuple[Tensor, Tensor]:
    most = max(1, int((codes > 0).sum(1).max()))
    return codes.topk(most, dim=1)


def _joined(parts: list[tuple[Tensor, Tensor]], width: int) -> SparseCodes:
    most = max(values.shape[1] for values, _ in parts)
    fill = lambda part: nn.functional.pad(part, (0, most - part.shape[1]))  # noqa: E731
    return SparseCodes(
        torch.cat([fill(values) for values, _ in parts]), torch.cat([fill(places) for _, places in parts]), width
    )
