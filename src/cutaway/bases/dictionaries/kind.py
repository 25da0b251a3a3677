"""What a kind of dictionary is: how it encodes, what it minimizes. Kinds enter through :data:`DICTIONARIES`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from jaxtyping import Bool, Float
from torch import Tensor

from cutaway.registry import Registry

if TYPE_CHECKING:
    from cutaway.bases.dictionaries.dictionary import Dictionary
    from cutaway.bases.dictionaries.recipe import Recipe

DICTIONARIES: Registry[type[Kind]] = Registry("dictionary kind", "cutaway.dictionaries")


@dataclass(frozen=True, eq=False)
class Pass:
    """One batch through a dictionary in training: what came out, and what is to be made small.

    ``error`` and ``penalty``: means over rows, in squared units. ``least``: the smallest kept code (BatchTopK).
    """

    out: Float[Tensor, "row d_out"]
    error: Float[Tensor, ""]
    penalty: Float[Tensor, ""] | float
    fired: Bool[Tensor, " latent"]
    l0: float
    least: float | None = None


class Kind(Protocol):
    """One way to get sparse codes from activations, without state of its own."""

    has_k: ClassVar[bool]
    """Keeps k latents, so that training touches only those."""
    extras: ClassVar[tuple[str, ...]]
    """Vectors beside weights and biases that must be there: threshold, gate_bias, gate_scale."""
    learned: ClassVar[tuple[str, ...]]
    """Which of those the gradient moves."""
    revive: ClassVar[str]
    """What is done about dead latents: aux or resample."""

    @staticmethod
    def encode(dictionary: Dictionary, acts: Float[Tensor, "row d_in"]) -> Float[Tensor, "row latent"]:
        """Codes outside training."""
        ...

    @staticmethod
    def train_on(
        dictionary: Dictionary, x: Float[Tensor, "row d_in"], y: Float[Tensor, "row d_out"], recipe: Recipe
    ) -> Pass:
        """One batch in training."""
        ...
