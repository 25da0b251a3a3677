"""Latents that are read at one or more places and write several blocks: what crosscoders and CLTs share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from cutaway.bases.basis import Origin
from cutaway.bases.crosscoders.plan import CROSSCODER, JUMPRELU, L1, Plan
from cutaway.bases.crosscoders.selection import Selection
from cutaway.bases.training.frame import geometric_median
from cutaway.errors import BadInput

FIRST_NORM = 0.1  # of each block's decoder at the start, for rows whose squared norm is about their width
STEEPNESS = 0.5  # of the tanh penalty, for activations times decoder norms in scaled units


@dataclass(frozen=True, eq=False)
class Step:
    """What one batch gave: the loss to go down, which latents fired, squared error and active latents of a row."""

    loss: Float[Tensor, ""]
    fired: Bool[Tensor, " latent"]
    error: float
    l0: float


class Coder(nn.Module):
    """Joined rows in, codes, joined rows out. Implements :class:`cutaway.bases.Basis` for joined rows.

    Inside, blocks are centred and scaled to a mean square of 1 per unit (:meth:`start`), so that a network with large
    activations does not outweigh the other; ``encode``, ``decode`` and ``directions`` are in the caller's units.
    """

    b_in: Tensor
    in_scale: Tensor
    out_scale: Tensor

    def __init__(self, plan: Plan, *, name: str = "", origins: tuple[Origin, ...] = (), seed: int = 0) -> None:
        super().__init__()
        self.plan, self.origins = plan, origins
        self.name = name or f"{plan.form}-{plan.selection}"
        self.W_enc, self.W_dec, self.b_enc = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        rng = torch.Generator().manual_seed(seed)
        for place in range(plan.places):
            self._add(place, rng)
        self.b_dec = nn.Parameter(torch.zeros(sum(plan.writes)))
        self.register_buffer("b_in", torch.zeros(sum(plan.reads)))
        self.register_buffer("in_scale", torch.ones(sum(plan.reads)))
        self.register_buffer("out_scale", torch.ones(sum(plan.writes)))
        self.selection = Selection(plan.selection, plan.width, plan.k)

    def _add(self, place: int, rng: torch.Generator) -> None:
        plan = self.plan
        sizes = plan.writes[plan.first(place) :]
        parts = [torch.randn(plan.latents, size, generator=rng) for size in sizes]
        parts = [FIRST_NORM * part / part.norm(dim=1, keepdim=True) for part in parts]
        own = torch.cat(parts, 1) if plan.form == CROSSCODER else parts[0]
        tied = own if own.shape[1] == plan.reads[place] else torch.randn(plan.latents, plan.reads[place], generator=rng)
        self.W_dec.append(nn.Parameter(torch.cat(parts, 1)))
        self.W_enc.append(nn.Parameter(tied / tied.norm(dim=1, keepdim=True)))
        self.b_enc.append(nn.Parameter(torch.zeros(plan.latents)))

    @property
    def width(self) -> int:
        """Number of latents."""
        return self.plan.width

    @property
    def origin(self) -> Origin | None:
        """None: what is read and written lies at more than one place; see ``origins``, one for each block."""
        return None

    @torch.no_grad()
    def start(self, x: Float[Tensor, "row reads"], y: Float[Tensor, "row writes"]) -> None:
        """Centre at the geometric median of some rows, and scale each block to a mean square of 1 per unit."""
        self.b_in.copy_(geometric_median(x))
        self.b_dec.copy_(geometric_median(y))
        self.in_scale.copy_(_block_scales(x - self.b_in, self._read_sizes()))
        self.out_scale.copy_(_block_scales(y - self.b_dec, self.plan.writes))
        self.b_dec.div_(self.out_scale)

    def _read_sizes(self) -> tuple[int, ...]:
        return self.plan.writes if self.plan.form == CROSSCODER else self.plan.reads

    def encode(self, acts: Float[Tensor, "*rows reads"]) -> Float[Tensor, "*rows latent"]:
        """How much of each latent is in joined rows of what is read."""
        self._check(acts)
        flat = acts.reshape(-1, acts.shape[-1])
        return self.selection.pick(self._pre(flat), self.worth()).unflatten(0, acts.shape[:-1])

    def decode(self, codes: Float[Tensor, "*rows latent"]) -> Float[Tensor, "*rows writes"]:
        """What codes stand for, joined."""
        flat = codes.reshape(-1, codes.shape[-1])
        return ((self._mix(flat) + self.b_dec) * self.out_scale).unflatten(0, codes.shape[:-1])

    def reconstruct(self, acts: Float[Tensor, "*rows reads"]) -> Float[Tensor, "*rows writes"]:
        """``decode(encode(acts))``."""
        return self.decode(self.encode(acts))

    def directions(self) -> Float[Tensor, "latent writes"]:
        """What one unit of each latent writes to every block, joined; 0 where it cannot write."""
        return self._decoder() * self.out_scale

    def block_directions(self, block: str | int) -> Float[Tensor, "latent d"]:
        """What one unit of each latent writes to one block."""
        number = self.plan.block(block) if isinstance(block, str) else block
        return self.directions()[:, self.plan.columns(number)]

    def block_norms(self) -> Float[Tensor, "block latent"]:
        """Decoder norms by block, in the scaled units in which blocks weigh the same."""
        blocks = range(len(self.plan.blocks))
        if self.plan.places == 1:
            return torch.stack([part.norm(dim=1) for part in self.W_dec[0].split(self.plan.writes, 1)])
        whole = self._decoder()
        return torch.stack([whole[:, self.plan.columns(block)].norm(dim=1) for block in blocks])

    def worth(self) -> Float[Tensor, " latent"]:
        """What one unit of a latent weighs: the sum of its block norms (crosscoder), its whole norm (CLT)."""
        norms = self.block_norms()
        return norms.sum(0) if self.plan.form == CROSSCODER else norms.square().sum(0).clamp(min=1e-24).sqrt()

    def objective(
        self,
        x: Float[Tensor, "row reads"],
        y: Float[Tensor, "row writes"],
        *,
        dead: Bool[Tensor, " latent"],
        penalty: float | int,
        aux: float | int,
    ) -> Step:
        """Half the squared error, the penalty of the selection, and AuxK for dead latents; means over rows."""
        pre, worth = self._pre(x), self.worth()
        codes = self.selection.learn(pre, worth)
        error = y / self.out_scale - self.b_dec - self._mix(codes)
        loss = error.square().sum(1).mean() / 2
        if penalty and self.plan.selection == L1:
            loss = loss + penalty * (codes * worth).sum(1).mean()
        if penalty and self.plan.selection == JUMPRELU:
            loss = loss + penalty * torch.tanh(STEEPNESS * codes * worth).sum(1).mean()
        if aux and bool(dead.any()):
            loss = loss + aux * self._revival(pre, worth, error.detach(), dead)
        on = codes.detach() > 0
        size = float(error.detach().square().sum(1).mean())
        return Step(loss, on.any(0), size, float(on.sum(1).float().mean()))

    def _revival(self, pre: Tensor, worth: Tensor, error: Tensor, dead: Tensor) -> Tensor:
        """AuxK (Gao et al. 2024): half the squared error of the error, rebuilt from the largest dead latents."""
        count = max(sum(self.plan.writes) // (2 * len(self.plan.blocks)), 1)
        taken = min(count, int(dead.sum()))
        codes = pre.clamp(min=0).masked_fill(~dead, 0.0)
        places = (codes * worth).topk(taken, -1).indices
        kept = torch.zeros_like(codes).scatter(-1, places, codes.gather(-1, places))
        share = min(int(dead.sum()) / count, 1.0)
        return share * (error - self._mix(kept)).square().sum(1).mean() / 2

    def _pre(self, x: Tensor) -> Tensor:
        parts = ((x - self.b_in) / self.in_scale).split(self.plan.reads, -1)
        read = [nn.functional.linear(part, w, b) for part, w, b in zip(parts, self.W_enc, self.b_enc, strict=True)]
        return torch.cat(read, -1)

    def _mix(self, codes: Tensor) -> Tensor:
        if self.plan.places == 1:
            return codes @ self.W_dec[0]
        out = codes.new_zeros(len(codes), sum(self.plan.writes))
        for place, own in enumerate(codes.split(self.plan.latents, -1)):
            out[:, self.plan.written(place)] += own @ self.W_dec[place]
        return out

    def _decoder(self) -> Tensor:
        total = sum(self.plan.writes)
        return torch.cat([nn.functional.pad(each, (total - each.shape[1], 0)) for each in self.W_dec])

    def _check(self, acts: Tensor) -> None:
        if acts.shape[-1] != sum(self.plan.reads):
            raise BadInput(
                f"Rows of {acts.shape[-1]} units were given to {self.name}, which reads "
                f"{' + '.join(map(str, self._read_sizes()))} units; join what it reads in the order of its blocks."
            )


class Crosscoder(Coder):
    """One code for two or more networks (or layers): it reads all of them and has a decoder for each.

    Lindsey et al. 2024; BatchTopK as in Minder et al. 2025.
    """


class CrossLayerTranscoder(Coder):
    """Latents read before the MLP of layer l that write the outputs of the MLPs of l and all later layers.

    Ameisen et al. 2025. A mechanism that spans layers is one latent instead of one in each layer.
    """

    def layer_of(self) -> tuple[int, ...]:
        """The layer at which each latent is read."""
        return tuple(place for place in range(self.plan.places) for _ in range(self.plan.latents))


def _block_scales(centred: Tensor, sizes: tuple[int, ...]) -> Tensor:
    parts = centred.split(sizes, -1)
    scales = [part.square().mean().sqrt() for part in parts]
    scales = [scale if float(scale) > 0 else torch.ones_like(scale) for scale in scales]
    return torch.cat([scale.expand(size) for scale, size in zip(scales, sizes, strict=True)])
