"""What a reducer is: a summary of a stream of activations that can be merged.

Reducers form a monoid: ``merge`` is associative and commutative, and a fresh reducer is its neutral element. So a
stream may be cut anywhere, its parts reduced anywhere, and the parts merged in any order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

State = dict[str, Tensor]


@runtime_checkable
class Reducer(Protocol):
    """Keeps a bounded summary of the activations of one site.

    An instance serves as the prototype of its settings, too: :meth:`fresh` and :meth:`restored` make new ones.
    """

    def settings(self) -> dict[str, Any]:
        """The keyword arguments that make this reducer again, as JSON values."""
        ...

    def fresh(self) -> "Reducer":
        """An empty reducer with the same settings."""
        ...

    def update(
        self,
        batch_ids: Sequence[str],
        acts: Float[Tensor, "batch pos unit"],
        valid: Bool[Tensor, "batch pos"] | None = None,
        places: Int[Tensor, " pos"] | None = None,
    ) -> None:
        """Takes in a batch: finite activations, False in ``valid`` for padding, the place code of each position."""
        ...

    def merge(self, other: Any) -> None:
        """Takes in all that another reducer with the same settings has seen."""
        ...

    def result(self) -> Any:
        """What was learned, as a frozen value with named fields."""
        ...

    def state(self) -> State:
        """Everything that was kept, as named arrays; none for a fresh reducer."""
        ...

    def restored(self, state: State) -> "Reducer":
        """A reducer with these settings and that state."""
        ...


@dataclass(frozen=True)
class Example:
    """One activation worth looking at: its value, its stimulus, and the place code of its position there."""

    stimulus: str
    place: int
    value: float
