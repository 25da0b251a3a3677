"""Predicted against measured edits: does what we read in the weights of a unit say what happens when they change?

An edit changes the kernel of a target unit: keep only some sources, ablate them, drop the negative weights, or put
another unit's kernel in its place. What it will do is predicted from weights and from the *unedited* network's
sources alone, by a linear account of the unit,

    f(x) = sum over sources c and offsets d of W[c, d] a_c(x, d) + b,      predicted change = (W' - W) . a(x),

and then measured by running the edited network. One layer below, the account before the nonlinearity is exact;
``coarse`` predictions replace a_c(x, d) by one number for each source and drawing (its answer in the middle), which is
how a person reads a circuit diagram, and can fail. Compared with edits of as many random sources (Cammarata et al.,
"Curve Circuits", Distill 2021).
"""

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cutaway.errors import BadInput, NotTestable
from cutaway.evidence import Measurement, measure_spearman
from cutaway.features.tuning import View, view_of
from cutaway.networks.network import Network
from cutaway.stimuli.drawings import Drawings

BATCH = 32
Kernels = Float[Tensor, "target source y x"]


@dataclass(frozen=True)
class KernelEdit:
    """A change of some targets' kernels; make one with :func:`keep_only`, :func:`ablate_sources`,
    :func:`drop_negatives` or :func:`transplant`.
    """

    name: str
    targets: tuple[int, ...]
    sources: tuple[int, ...]
    change: Callable[[Tensor], Tensor]  # [target source y x] of these targets -> the same


def keep_only(targets: Sequence[int], sources: Sequence[int], name: str = "keep only") -> KernelEdit:
    """Only these sources feed the targets."""

    def change(weight: Tensor) -> Tensor:
        kept = torch.zeros_like(weight)
        kept[:, list(sources)] = weight[:, list(sources)]
        return kept

    return KernelEdit(name, tuple(targets), tuple(sources), change)


def ablate_sources(targets: Sequence[int], sources: Sequence[int], name: str = "ablate") -> KernelEdit:
    """These sources no longer feed the targets."""

    def change(weight: Tensor) -> Tensor:
        cut = weight.clone()
        cut[:, list(sources)] = 0
        return cut

    return KernelEdit(name, tuple(targets), tuple(sources), change)


def drop_negatives(
    targets: Sequence[int], sources: Sequence[int] | None = None, name: str = "drop negatives"
) -> KernelEdit:
    """The negative weights from these sources (all, unless given) are gone."""

    def change(weight: Tensor) -> Tensor:
        columns = list(range(weight.shape[1])) if sources is None else list(sources)
        kept = weight.clone()
        kept[:, columns] = weight[:, columns].clamp_min(0)
        return kept

    return KernelEdit(name, tuple(targets), tuple(sources or ()), change)


def transplant(targets: Sequence[int], kernel: Float[Tensor, "source y x"], name: str = "transplant") -> KernelEdit:
    """The targets get this kernel instead of their own."""
    return KernelEdit(name, tuple(targets), (), lambda weight: kernel.to(weight).expand_as(weight).clone())


def convolution_into(network: Network, site: str) -> tuple[str, nn.Conv2d]:
    """The full convolution whose output is the site (before or after its nonlinearity), and its dotted path.

    ``NotTestable`` where the last convolution before the site is depthwise, grouped, or of another width.
    """
    parts = dict(network.module.named_modules())
    depth = network.site(site).depth
    before = [s.module for s in network.sites() if s.depth <= depth and isinstance(parts.get(s.module), nn.Conv2d)]
    if not before:
        raise NotTestable(f"The weights into {site} were asked for; no convolution comes before it.")
    module = parts[before[-1]]
    assert isinstance(module, nn.Conv2d)
    if module.groups != 1 or module.out_channels != network.site(site).width:
        raise NotTestable(
            f"The weights into {site} were asked for; {before[-1]} is no full convolution with its units."
        )
    return before[-1], module


def with_kernels(network: Network, site: str, weight: Kernels, suffix: str = "edited") -> Network:
    """A copy of the network in which the convolution into a site has these weights."""
    path, _ = convolution_into(network, site)
    module = copy.deepcopy(network.module)
    part = dict(module.named_modules())[path]
    assert isinstance(part, nn.Conv2d)
    with torch.no_grad():
        part.weight.copy_(weight)
    return network.with_module(module, suffix)


def apply_edit(network: Network, site: str, edit: KernelEdit) -> Network:
    """The network with the edit made."""
    weight = convolution_into(network, site)[1].weight.detach().clone()
    rows = list(edit.targets)
    wrong = [unit for unit in rows if not 0 <= unit < weight.shape[0]]
    sources = [unit for unit in edit.sources if not 0 <= unit < weight.shape[1]]
    if wrong or sources:
        said = f"unit {wrong[0]} of {site}" if wrong else f"source {sources[0]} of {weight.shape[1]}"
        raise BadInput(f"The edit {edit.name!r} names {said}, which does not exist; name others.")
    weight[rows] = edit.change(weight[rows])
    return with_kernels(network, site, weight, edit.name.replace(" ", "-"))


def activations(
    network: Network, site: str, drawings: Drawings, view: View | None = None
) -> Float[np.ndarray, "unit drawing"]:
    """The activation of every unit at the middle position for each drawing; no window, so that like meets like."""
    view = view or view_of(network, site)
    rows, (y, x) = [], view.middle
    for _, pixels in drawings.on(view.canvas).batches(BATCH):
        batch = network.prepare_rgb(torch.from_numpy(np.ascontiguousarray(pixels)))
        rows.append(network.run(batch, capture=[site], stop_at=True)[site][:, :, y, x].float().cpu().numpy())
    return np.concatenate(rows).T


@dataclass(frozen=True, eq=False)
class EditResult:
    """What one edit was said to do to each target and drawing, and what it did, in activations of the target."""

    name: str
    predicted: Float[np.ndarray, "target drawing"]
    measured: Float[np.ndarray, "target drawing"]
    agreement: Measurement  # rank correlation over drawings and targets, null: predictions for other drawings


def edit_test(
    network: Network,
    source: str,
    target: str,
    edits: Sequence[KernelEdit],
    drawings: Drawings,
    *,
    coarse: bool = True,
    seed: int = 0,
) -> tuple[EditResult, ...]:
    """Predicts every edit's change of its targets' answers to the drawings, then measures it.

    ``coarse`` predicts from one number for each source and drawing (its activation at the position under the middle of
    the target) and the sum of each kernel; otherwise from the whole patch of the source map that the kernel reads,
    which is exact where nothing but the nonlinearity lies between. Predictions are made before the nonlinearity and
    passed through it (negative becomes 0) where the site lies after one.
    """
    view = view_of(network, target)
    patches = _patches(network, source, target, drawings, view)
    _, conv = convolution_into(network, target)
    weight, bias = conv.weight.detach(), conv.bias.detach() if conv.bias is not None else None
    before = activations(network, target, drawings, view)
    results = []
    for edit in edits:
        edited = apply_edit(network, target, edit)
        rows = list(edit.targets)
        measured = activations(edited, target, drawings, view)[rows] - before[rows]
        new = convolution_into(edited, target)[1].weight.detach()
        old_value, new_value = (
            _account(kernels[rows], patches, None if bias is None else bias[rows], coarse) for kernels in (weight, new)
        )
        if bool((before >= 0).all()):
            old_value, new_value = np.maximum(old_value, 0), np.maximum(new_value, 0)
        predicted = new_value - old_value
        agreement = measure_spearman(predicted.ravel(), measured.ravel(), seed=seed)
        results.append(EditResult(edit.name, predicted, measured, agreement))
    return tuple(results)


def _patches(
    network: Network, source: str, target: str, drawings: Drawings, view: View
) -> Float[np.ndarray, "drawing source y x"]:
    """What the target's kernel reads at the middle position: the module's own input, cut out."""
    path, conv = convolution_into(network, target)
    if network.site(source).width != conv.in_channels:
        raise BadInput(f"{target} reads {conv.in_channels} channels, {source} has {network.site(source).width}.")
    found: list[tuple[Tensor, Tensor]] = []
    part = dict(network.module.named_modules())[path]
    handle = part.register_forward_hook(lambda _module, args, out: found.append((args[0].detach(), out.detach())))
    try:
        cut, corner = [], None
        for _, pixels in drawings.on(view.canvas).batches(BATCH):
            batch = network.prepare_rgb(torch.from_numpy(np.ascontiguousarray(pixels)))
            network.run(batch, capture=[target], stop_at=True)
            read, made = found.pop()
            corner = corner or _corner(read, made, conv, view.middle)
            (top, left), (rows, columns) = corner, conv.kernel_size
            cut.append(read[:, :, top : top + rows, left : left + columns].float().cpu().numpy())
    finally:
        handle.remove()
    return np.concatenate(cut)


def _corner(read: Tensor, made: Tensor, conv: nn.Conv2d, middle: tuple[int, int]) -> tuple[int, int]:
    """Where the patch begins that the kernel reads at the middle: the padding (which a module may do by itself) is
    found by trying which patch gives the module's own output.
    """
    sides, (y, x) = conv.kernel_size, middle
    for pads in itertools.product(range(sides[0]), range(sides[1])):
        top, left = y * conv.stride[0] - pads[0], x * conv.stride[1] - pads[1]
        patch = read[:, :, max(top, 0) : top + sides[0], max(left, 0) : left + sides[1]]
        if patch.shape[2:] != conv.weight.shape[2:]:
            continue
        value = torch.einsum("bcyx,tcyx->bt", patch, conv.weight.detach())
        value = value if conv.bias is None else value + conv.bias.detach()
        if torch.allclose(value, made[:, :, y, x], rtol=1e-3, atol=1e-4 * float(made.abs().max())):
            return top, left
    raise NotTestable("What the target's kernel reads at the middle could not be found; it is no plain convolution.")


def _account(
    kernels: Kernels, patches: Float[np.ndarray, "drawing source y x"], bias: Tensor | None, coarse: bool
) -> Float[np.ndarray, "target drawing"]:
    weight = kernels.double().cpu().numpy()
    if coarse:
        centre = patches[:, :, patches.shape[2] // 2, patches.shape[3] // 2].astype(np.float64)
        value = weight.sum((2, 3)) @ centre.T
    else:
        value = np.einsum("tcyx,dcyx->td", weight, patches.astype(np.float64), optimize=True)
    return value if bias is None else value + bias.double().cpu().numpy()[:, None]


def recovered(
    network: Network, target: str, unit: int, groups: Mapping[str, Sequence[int]], drawings: Drawings
) -> dict[str, float]:
    """CAR of each group of sources: 1 - ||f - f'|| / ||f|| with f the unit's answers to the drawings and f' those when
    only that group feeds it. 1: the group is all of the unit; 0: as good as a silent unit; below: worse.
    """
    view = view_of(network, target)
    original = activations(network, target, drawings, view)[unit]
    scale = float(np.linalg.norm(original))
    if scale == 0:
        raise NotTestable(f"{target}:{unit} is silent on all of these drawings, so nothing can be recovered.")
    found = {}
    for name, sources in groups.items():
        kept = activations(apply_edit(network, target, keep_only([unit], sources)), target, drawings, view)[unit]
        found[name] = 1 - float(np.linalg.norm(original - kept)) / scale
    return found


def random_groups(count: int, size: int, of: int, *, seed: int = 0) -> list[tuple[int, ...]]:
    """Size-matched random sets of sources, the null of :func:`recovered` and of edits."""
    if not 0 < size <= of:
        raise BadInput(f"Random groups of {size} out of {of} sources were asked for; ask for 1 to {of}.")
    rng = np.random.default_rng(seed)
    return [tuple(sorted(int(unit) for unit in rng.choice(of, size, replace=False))) for _ in range(count)]
