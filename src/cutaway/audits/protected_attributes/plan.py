"""How much of each prompt family an audit profile pays for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from cutaway.audits.rules import Profile
from cutaway.networks.network import Network

LEAST_SHUFFLES = 499  # eight marker pairs have 256 label assignments; fewer draws would raise the smallest p


@runtime_checkable
class _Halved(Protocol):
    @property
    def half(self) -> str: ...


T = TypeVar("T", bound=_Halved)


@dataclass(frozen=True)
class Plan:
    """Numbers of templates, sites, draws and edges; templates are taken in equal parts from both halves."""

    encoding_templates: int
    occupation_templates: int
    decision_templates: int
    job_templates: int
    resid_sites: tuple[str, ...]
    twin_sites: tuple[str, ...]  # up to the middle: an untrained network builds nothing up with depth
    mlp_sites: tuple[str, ...]
    steer_sites: tuple[str, ...]
    nulls: int
    shuffles: int
    followed: int  # edges that are followed into the network
    cards: int
    seed: int

    @classmethod
    def of(cls, profile: Profile, network: Network, seed: int) -> "Plan":
        """The plan of a profile: at 12 templates everything, below about half of it."""
        all_of_it = profile.templates >= 12
        resid = named(network, "resid")
        mlp = named(network, "mlp")
        sites = evenly(resid, profile.sites)
        return cls(
            encoding_templates=12 if all_of_it else 4,
            occupation_templates=min(12, profile.templates),
            decision_templates=8 if all_of_it else 2,
            job_templates=8 if all_of_it else 4,
            resid_sites=sites,
            twin_sites=sites if all_of_it else sites[: max(1, len(sites) // 2)],
            mlp_sites=evenly(mlp, profile.sites),
            steer_sites=tuple(dict.fromkeys(resid[round((len(resid) - 1) * share)] for share in (0.25, 0.4, 0.55))),
            nulls=profile.nulls,
            shuffles=max(LEAST_SHUFFLES, profile.permutations),
            followed=max(2, profile.cards // 3),
            cards=profile.cards,
            seed=seed,
        )


def named(network: Network, kind: str) -> list[str]:
    """The blocks' sites of one kind in the order of the forward pass (without the last norm's output)."""
    return [site.name for site in network.sites() if site.kind == kind and site.name.startswith("layers.")]


def evenly(names: Sequence[str], count: int) -> tuple[str, ...]:
    """``count`` names at equal distances, the last one included."""
    count = min(count, len(names))
    return tuple(names[round((i + 1) * len(names) / count) - 1] for i in range(count))


def balanced(templates: Sequence[T], count: int) -> list[T]:
    """The first ``count`` templates, half of them of half A and half of half B."""
    halves = [[template for template in templates if template.half == half] for half in ("A", "B")]
    return [template for half in halves for template in half[: max(1, count // 2)]]
