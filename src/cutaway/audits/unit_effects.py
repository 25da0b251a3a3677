"""Screening all units of a network by their estimated importance, and ablating single ones to know it."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from cutaway.audits.effects import Change, change, sampled_log_likelihood
from cutaway.evidence import random_sets
from cutaway.networks.edits import Ablate
from cutaway.networks.network import Batch, Network
from cutaway.networks.sites import Address

KINDS = ("mlp", "conv", "activation")


@dataclass(frozen=True)
class Effects:
    """Change per stimulus for each ablated unit: [unit stimulus]."""

    addresses: tuple[Address, ...]
    amount: np.ndarray
    flipped: np.ndarray

    def means(self) -> np.ndarray:
        """Mean change of each unit."""
        return self.amount.mean(1)


def examined_sites(network: Network, most: int) -> list[str]:
    """Sites after a nonlinearity, evenly spread over the depth where there are more than ``most``."""
    found = [site.name for site in network.sites() if site.kind in KINDS]
    if len(found) <= most:
        return found
    return [found[index] for index in np.linspace(0, len(found) - 1, most).round().astype(int)]


def screen(network: Network, batches: list[Batch], sites: list[str], *, seed: int, draws: int = 2) -> dict[str, Tensor]:
    """The screening score of every unit of ``sites``: {site: [unit]}, in nats per stimulus."""
    means = _site_means(network, batches, sites)
    generator = torch.Generator().manual_seed(seed)
    total = {name: torch.zeros(len(mean)) for name, mean in means.items()}
    count = 0
    for batch in batches:
        run = network.run(batch, capture=sites, grad=True)
        for draw in range(draws):
            likelihood = sampled_log_likelihood(network, run.logits, batch, generator).sum()
            gradients = torch.autograd.grad(
                likelihood, [run[name] for name in sites], retain_graph=draw + 1 < draws, allow_unused=True
            )
            for name, gradient in zip(sites, gradients):
                if gradient is not None:
                    total[name] += _quadratic(gradient, run[name].detach(), means[name], network, name).cpu()
        count += len(batch) * draws
    return {name: value / count for name, value in total.items()}


def _quadratic(gradient: Tensor, acts: Tensor, mean: Tensor, network: Network, name: str) -> Tensor:
    """sum over stimuli of (sum_pos g (mean - a))^2 / 2, for each unit."""
    axis = network.site(name).unit_axis
    shape = [1] * acts.ndim
    shape[axis] = len(mean)
    product = gradient.float() * (mean.to(acts.device).reshape(shape) - acts.float())
    axes = [a for a in range(1, product.ndim) if a != axis]
    return (product.sum(axes) if axes else product).float().square().sum(0) / 2


def _site_means(network: Network, batches: list[Batch], sites: list[str]) -> dict[str, Tensor]:
    """Each unit's mean over real positions of all batches."""
    sums: dict[str, Tensor] = {}
    count: dict[str, float] = {}
    for batch in batches:
        run = network.run(batch, capture=sites, stop_at=True)
        for name in sites:
            rows = run[name].movedim(network.site(name).unit_axis, -1)
            if batch.mask is not None and rows.ndim == 3:
                rows = rows[batch.mask]
            rows = rows.reshape(-1, rows.shape[-1]).float()
            sums[name] = sums.get(name, torch.zeros(rows.shape[1])) + rows.sum(0).cpu()
            count[name] = count.get(name, 0) + len(rows)
    return {name: value / count[name] for name, value in sums.items()}


def choose(scores: dict[str, Tensor], top: int, random_units: int, seed: int) -> tuple[list[Address], list[Address]]:
    """The best-screened units, and random others from the same sites in the same numbers."""
    everything = [Address(name, unit) for name, score in scores.items() for unit in range(len(score))]
    flat = torch.cat(list(scores.values()))
    best = [everything[index] for index in flat.argsort(descending=True, stable=True)[: min(top, len(flat) // 2)]]
    repeats = -(-random_units // max(len(best), 1))
    drawn = random_sets(best, everything, repeats, stratum=_room(best, everything), seed=seed)
    unique = list(dict.fromkeys(address for group in drawn for address in group))
    return best, unique[:random_units]


def _room(best: list[Address], everything: list[Address]) -> Callable[[Address], Hashable] | None:
    """Match random units to the site where that leaves enough to draw from; else to the whole network."""
    sites = [address.site for address in best]
    spare = {site: sum(a.site == site for a in everything) - sites.count(site) for site in set(sites)}
    return (lambda address: address.site) if all(spare[site] >= sites.count(site) for site in spare) else None


def ablate_each(network: Network, batches: list[Batch], addresses: list[Address], to: str, seed: int) -> Effects:
    """The change that each unit's ablation causes, one unit at a time."""
    means = _site_means(network, batches, list(dict.fromkeys(a.site for a in addresses))) if to == "mean" else {}
    originals = [network.run(batch).logits for batch in batches]
    rows: list[list[Change]] = []
    for address in addresses:
        row = []
        for batch, original in zip(batches, originals):
            edit = Ablate(address.site, [address.unit], to=to, reference=means.get(address.site), seed=seed)
            row.append(change(network, original, network.run(batch, edits=[edit]).logits, batch))
        rows.append(row)
    amount = np.stack([torch.cat([c.amount for c in row]).double().cpu().numpy() for row in rows])
    flipped = np.stack([torch.cat([c.flipped for c in row]).double().cpu().numpy() for row in rows])
    return Effects(tuple(addresses), amount, flipped)


def beyond_random(values: np.ndarray, random_values: np.ndarray) -> np.ndarray:
    """p of each value as one more draw from where the random units came from, on a log scale.

    Student's prediction interval for one new observation (Hahn 1969): a rank among R random units can give no p below
    1 / (R + 1), too coarse to correct for many units. A unit must also exceed every random one to be reported.
    """
    logs = np.log(np.maximum(random_values, 1e-12))
    spread = logs.std(ddof=1) * np.sqrt(1 + 1 / len(logs))
    distance = np.log(np.maximum(values, 1e-12)) - logs.mean()
    # Random units without any spread: a value beside them is either one of them or beyond doubt.
    scores = np.divide(distance, spread, out=np.where(distance > 1e-6, np.inf, 0.0), where=spread > 1e-9)
    return stats.t.sf(scores, len(logs) - 1)
