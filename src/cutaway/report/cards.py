"""Feature cards as the report sees them: an address, a fragment of HTML, a JSON object."""

from typing import Any, Protocol, cast, runtime_checkable

from cutaway.audits.findings import AuditResult


@runtime_checkable
class Card(Protocol):
    """What the report asks of a card; features.FeatureCard answers it."""

    @property
    def address(self) -> object:
        """The feature's address; its text is what a reader types."""
        ...

    def to_html(self) -> str:
        """A self-contained fragment, headed by the address in an ``h3``, with classes and ids prefixed ``card-``;
        the card escapes its own strings.
        """
        ...

    def to_json(self) -> dict[str, Any]:
        """The card's content as JSON values."""
        ...


def cards_of(result: AuditResult) -> list[Card]:
    """The cards of an audit, in the order in which the rules asked for them."""
    return [cast(Card, card) for card in result.cards]


def card_anchor(address: object) -> str:
    """Where a card stands inside the report; other characters than letters and digits are written by code."""
    return "card-at-" + "".join(c if c.isascii() and c.isalnum() else f"-{ord(c):x}-" for c in str(address))
