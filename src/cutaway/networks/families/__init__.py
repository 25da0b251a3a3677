"""How to name the sites of a kind of network: one file per family, each a plug-in in ``registry.FAMILIES``.

What enters is a module; what leaves is its sites, its modality and its task. A family only names: it changes nothing
in the module. The first family that matches is taken; ``generic`` comes last and matches everything.
"""

from typing import Protocol, runtime_checkable

from torch import nn

from cutaway.networks.sites import Site
from cutaway.registry import FAMILIES


@runtime_checkable
class Family(Protocol):
    """Names the sites of one kind of network."""

    modality: str

    def matches(self, module: nn.Module) -> bool:
        """True if this family can name the module's sites."""
        ...

    def sites(self, module: nn.Module) -> tuple[Site, ...]:
        """All sites in the order of the forward pass."""
        ...

    def task(self, module: nn.Module) -> str:
        """What the module answers: causal-lm, encoder, classifier, edges, other."""
        ...


def family_of(module: nn.Module) -> tuple[str, Family]:
    """The first registered family that matches, the generic one last."""
    # Importing the files enters the built-in families, in this order.
    from cutaway.networks.families import bert, compiled, gemma, generic, gpt2, hed, inception, llama, neox, vit  # noqa: F401

    generic_last = sorted(FAMILIES.items(), key=lambda entry: entry[0] == "generic")
    return next((name, family) for name, family in generic_last if family.matches(module))


__all__ = ["FAMILIES", "Family", "family_of"]
