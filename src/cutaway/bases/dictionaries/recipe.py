"""What to train: one frozen recipe for each dictionary."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cutaway.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one dictionary is trained.

    Losses are in units in which the rows' median squared distance from their geometric median equals their width,
    whatever the site's scale; the scale is folded back at the end.
    """

    kind: str = "topk"
    width: int = 1024
    """Number of latents."""
    k: int | None = None
    """Active latents a row (on average over a batch for batchtopk and matryoshka); None: 32 where the kind has a k."""
    l1: float = 5.0
    """Weight of the sparsity penalty, beside the squared error of a row; kinds with a k have none."""
    lr: float | None = None
    """Largest learning rate; None: 2e-4 / sqrt(width / 16384) (Gao et al. 2024), at most 1e-3."""
    batch: int = 4096
    steps: int = 1000
    warmup: float = 0.05
    """Share of the steps over which learning rate and penalty rise."""
    decay: float = 0.2
    """Share of the steps, at the end, over which the learning rate falls to 0."""
    seed: int = 0
    skip: bool = False
    """A linear map from what is read to what is written beside the latents (transcoders)."""
    aux: float = 1 / 32
    """Weight of AuxK: dead latents learn what the others leave over (Gao et al. 2024)."""
    revive: str | None = None
    """``aux``, ``resample`` (Bricken et al. 2023) or ``none``; None: what the kind does."""
    dead_after: int | None = None
    """Rows without firing after which a latent counts as dead; None: a tenth of the run, at most a million."""
    prefixes: tuple[float, ...] = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
    """matryoshka: the nested shares of the latents, each a dictionary of its own."""
    bandwidth: float = 0.5
    """jumprelu: width of the straight-through window."""
    clip: float | None = 1.0
    """Largest norm of the gradient."""
    precision: str = "fp32"
    """``fp32`` or ``bf16`` (matrix products under autocast; weights and optimizer stay in fp32)."""
    name: str = ""

    def __post_init__(self) -> None:
        for what, value in (("width", self.width), ("batch", self.batch), ("steps", self.steps)):
            if value < 1:
                raise BadInput(f"A recipe with {what} {value} was given; give at least 1.")
        if self.k is not None and not 1 <= self.k <= self.width:
            raise BadInput(f"k = {self.k} active latents of {self.width} were asked for; give 1 to {self.width}.")
        shares = (*self.prefixes,)
        if list(shares) != sorted(set(shares)) or not shares or shares[0] <= 0 or shares[-1] != 1:
            raise BadInput(f"Prefixes {shares} were given; give rising shares of the latents that end with 1.")
        if self.warmup < 0 or self.decay < 0 or self.warmup + self.decay > 1:
            raise BadInput(
                f"Warm-up {self.warmup} and decay {self.decay} are shares of the steps; give at most 1 in all."
            )
        _among("revive", self.revive, (None, "aux", "resample", "none"))
        _among("precision", self.precision, ("fp32", "bf16"))

    @property
    def rate(self) -> float:
        """The largest learning rate."""
        return min(1e-3, 2e-4 / (self.width / 16384) ** 0.5) if self.lr is None else self.lr

    @property
    def patience(self) -> int:
        """Rows without firing after which a latent is dead."""
        return self.dead_after or max(1, min(1_000_000, self.steps * self.batch // 10))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "prefixes": list(self.prefixes)}


def _among(what: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        raise BadInput(f"The recipe says {what} = {value!r}; give one of {', '.join(map(str, known))}.")
