"""What a rule is, and what it is given: the door through which questions enter an audit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from cutaway.audits.findings import RuleResult
from cutaway.errors import BadInput
from cutaway.networks.network import Network
from cutaway.registry import RULES


@dataclass(frozen=True)
class Profile:
    """How much an audit may spend; the numbers are ceilings that every rule keeps to."""

    name: str
    stimuli: int  # stimuli shown for general questions
    templates: int  # templates per prompt family
    nulls: int  # draws of a null distribution
    permutations: int  # permutations of a p-value
    units: int  # units examined one by one after screening
    random_units: int  # random units they are compared with
    twin_seeds: int  # untrained twins
    cards: int  # cards in the report
    sites: int  # sites examined per kind


PROFILES = {
    "quick": Profile("quick", 48, 8, 40, 400, 16, 40, 1, 6, 6),
    "full": Profile("full", 400, 12, 200, 4000, 100, 200, 5, 20, 30),
}


def profile_named(name: str) -> Profile:
    """The profile of that name."""
    if name not in PROFILES:
        raise BadInput(f"Profile {name!r} was asked for; choose {' or '.join(PROFILES)}.")
    return PROFILES[name]


def silent(_done: int, _total: int, _what: str) -> None:
    """A progress listener that says nothing."""


@dataclass(frozen=True)
class AuditContext:
    """Everything a rule may use: the network, an atlas to read and write, stimuli, a budget, a seed."""

    network: Network
    atlas: Any
    stimuli: Any  # the audit's general stimulus set, fitting the network's modality; None where it has none
    profile: Profile
    seed: int = 0
    progress: Callable[[int, int, str], None] = field(default=silent)  # done, total, what
    command: str = ""  # the command that reproduces this audit, for Finding.reproduce


@runtime_checkable
class Rule(Protocol):
    """One question that an audit asks of a network."""

    id: str
    version: str
    question: str

    def applicable(self, network: Network) -> str | None:
        """None if the question can be asked of this network, else one sentence that says why not."""
        ...

    def check(self, context: AuditContext) -> RuleResult:
        """The answer: findings, things not found, addresses worth a card."""
        ...


def rules_for(names: Sequence[str] | None = None) -> list[Rule]:
    """The registered rules, all or the named ones, in order of registration."""
    from cutaway.audits import builtin

    builtin.load()
    return [RULES[name] for name in (names if names is not None else RULES)]
