"""What a reducer is: a summary of a stream of activations that can be merged.

Reducers form a monoid: ``merge`` is associative and commutative, and a fresh reducer is its neutral element. So a
stream may be cut anywhere, its parts reduced anywhere, and the parts merged in any order.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

State = dict[str, Tensor]
Content = TypeVar("Content")


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


class Accumulator(ABC, Generic[Content]):
    """A reducer as two functions: what a batch says, and how two such summaries become one.

    Most reducers derive from this; it keeps the summary so far, which is None until a batch said something. A
    subclass takes its settings as keyword arguments and gives them back from :meth:`settings`.
    """

    def __init__(self) -> None:
        self._content: Content | None = None

    def settings(self) -> dict[str, Any]:
        """No settings, unless a subclass has some."""
        return {}

    def fresh(self) -> "Accumulator[Content]":
        """An empty reducer with the same settings."""
        return type(self)(**self.settings())

    def update(
        self,
        batch_ids: Sequence[str],
        acts: Float[Tensor, "batch pos unit"],
        valid: Bool[Tensor, "batch pos"] | None = None,
        places: Int[Tensor, " pos"] | None = None,
    ) -> None:
        """Takes in a batch; one without a real position says nothing."""
        if acts.numel() and (valid is None or bool(valid.any())):
            self._absorb(self._summary(batch_ids, acts, valid, places))

    def merge(self, other: "Accumulator[Content]") -> None:
        """Takes in all that another has seen."""
        self._absorb(other._content)

    def state(self) -> State:
        """The summary as named arrays; none for a fresh reducer."""
        return {} if self._content is None else self._packed(self._content)

    def restored(self, state: State) -> "Accumulator[Content]":
        """A reducer with these settings and that state."""
        new = self.fresh()
        if state:
            new._content = self._unpacked(state)
        return new

    def _absorb(self, content: Content | None) -> None:
        if content is not None:
            self._content = content if self._content is None else self._joined(self._content, content)

    @abstractmethod
    def _summary(self, ids: Sequence[str], acts: Tensor, valid: Tensor | None, places: Tensor | None) -> Content:
        """What a batch with at least one real position says."""

    @abstractmethod
    def _joined(self, one: Content, other: Content) -> Content:
        """The summary of both; neither is changed."""

    @abstractmethod
    def _packed(self, content: Content) -> State:
        """A summary as named arrays."""

    @abstractmethod
    def _unpacked(self, state: State) -> Content:
        """The inverse of :meth:`_packed`."""

    @abstractmethod
    def result(self) -> Any:
        """What was learned, as a frozen value with named fields."""
