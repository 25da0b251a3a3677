"""Two networks whose features are known: some shared, some in one alone; and what it means to have found one."""

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from cutaway.bases.crosscoders import Crosscoder, Specificity

#: Fixed before any result was looked at: a planted feature is recovered if the latent that is matched to it (one to
#: one, largest total cosine) has at least this cosine with it, decoders of both networks joined.
RECOVERED = 0.9


@dataclass(frozen=True)
class Planted:
    """Unit directions of each network [feature d], 0 where a network lacks the feature; owner None for shared ones."""

    first: Tensor
    second: Tensor
    owners: tuple[str | None, ...]
    rates: Tensor

    def rows(self, count: int, seed: int, noise: float = 0.01) -> Tensor:
        """Joined rows: every feature fires by itself at its rate, with an amount between 0.5 and 1.5."""
        rng = torch.Generator().manual_seed(seed)
        shape = (count, len(self.owners))
        on = torch.rand(shape, generator=rng) < self.rates
        amounts = on * (0.5 + torch.rand(shape, generator=rng))
        clean = torch.cat([amounts @ self.first, amounts @ self.second], 1)
        return clean + noise * torch.randn(clean.shape, generator=rng)


def planted(
    seed: int, *, shared: int = 16, alone: int = 4, d: int = 32, rare: float | None = None, common_space: bool = True
) -> Planted:
    """``shared`` features and ``alone`` of each network's own, in 8 % of rows; ``rare``: the second's own rate."""
    rng = torch.Generator().manual_seed(1000 + seed)
    count = shared + 2 * alone
    first = torch.nn.functional.normalize(torch.randn(count, d, generator=rng), dim=1)
    second = first if common_space else torch.nn.functional.normalize(torch.randn(count, d, generator=rng), dim=1)
    owners = (None,) * shared + ("a",) * alone + ("b",) * alone
    has = {name: torch.tensor([owner in (None, name) for owner in owners])[:, None] for name in ("a", "b")}
    rates = torch.full((count,), 0.08)
    rates[shared + alone :] = 0.08 if rare is None else rare
    return Planted(first * has["a"], second * has["b"], owners, rates)


@dataclass(frozen=True)
class Found:
    """For each planted feature what became of it, in the order of the planted ones.

    ``classed``: its latent has the right owner by Latent Scaling; ``by_scaling``, ``by_norms``: recovered and the right
    owner; ``certain``: recovered and exclusive with the upper ends of the intervals.
    """

    recovered: tuple[bool, ...]
    classed: tuple[bool, ...]
    by_scaling: tuple[bool, ...]
    by_norms: tuple[bool, ...]
    certain: tuple[bool, ...]


def matched(truth: Tensor, learned: Tensor) -> tuple[list[int], list[bool]]:
    """The latent of each true direction (one to one, largest total cosine), and whether it is close enough."""
    unit = [torch.nn.functional.normalize(each.detach().double(), dim=1) for each in (truth, learned)]
    cosines = (unit[0] @ unit[1].T).numpy()
    features, latents = linear_sum_assignment(cosines, maximize=True)
    return latents.tolist(), (cosines[features, latents] >= RECOVERED).tolist()


def found(truth: Planted, coder: Crosscoder, said: Specificity) -> Found:
    """Matches features and latents, and compares owners."""
    latents, recovered = matched(torch.cat([truth.first, truth.second], 1), coder.directions())
    right = [said.owners()[latent] == owner for latent, owner in zip(latents, truth.owners, strict=True)]
    norms = [said.norm_owners()[latent] == owner for latent, owner in zip(latents, truth.owners, strict=True)]
    sure = [bool(said.certain[latent]) for latent in latents]
    both = [tuple(a and b for a, b in zip(recovered, each, strict=True)) for each in (right, norms, sure)]
    return Found(tuple(recovered), tuple(right), *both)


@dataclass(frozen=True)
class Stack:
    """Three layers with a residual stream: layer l brings its own features, and every MLP from there on answers them.

    ``reads`` [feature d]: what a feature adds to the stream at its layer; ``writes`` [layer feature d]: what the MLP of
    a layer answers, 0 before the feature is there.
    """

    reads: Tensor
    writes: Tensor
    born: Tensor

    @property
    def decoders(self) -> Tensor:
        """What the features write to all layers, joined."""
        return torch.cat(list(self.writes), 1)

    def rows(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """What the MLPs read and write, layers joined; a feature fires in 8 % of rows, 0.5 to 1.5 of it."""
        rng = torch.Generator().manual_seed(seed)
        shape = (count, len(self.born))
        amounts = (torch.rand(shape, generator=rng) < 0.08) * (0.5 + torch.rand(shape, generator=rng))
        detect = torch.linalg.pinv(self.reads)  # an MLP's detectors: each sees its feature and no other
        stream, read, written = torch.zeros(count, self.reads.shape[1]), [], []
        for layer, writes in enumerate(self.writes):
            stream = stream + (amounts * (self.born == layer)) @ self.reads
            answer = torch.relu(stream @ detect * (self.born <= layer)) @ writes
            read, written = [*read, stream], [*written, answer]
            stream = stream + answer - (answer @ detect) @ self.reads  # answers lie where no detector looks
        noise = 0.01 * torch.randn(2, count, 3 * self.reads.shape[1], generator=rng)
        return torch.cat(read, 1) + noise[0], torch.cat(written, 1) + noise[1]


def stack(seed: int, *, each: int = 4, d: int = 32) -> Stack:
    """``each`` features of each of three layers."""
    rng = torch.Generator().manual_seed(2000 + seed)
    born = torch.arange(3).repeat_interleave(each)
    reads = torch.nn.functional.normalize(torch.randn(3 * each, d, generator=rng), dim=1)
    writes = torch.nn.functional.normalize(torch.randn(3, 3 * each, d, generator=rng), dim=2)
    return Stack(reads, writes * (born[None] <= torch.arange(3)[:, None])[..., None], born)
