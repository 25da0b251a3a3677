"""Expanded weights: what a unit makes of a site several layers before it, as one kernel over that site.

Across nonlinear layers there is no one kernel, so three are offered, and they answer different questions.

``average``   the layers in between taken for linear: every activation the identity, every max pool an average pool
              (Voss et al. 2021, "Visualizing Weights"). Independent of inputs; opposite paths cancel.
``smoothed``  the mean gradient over natural pictures, each at the position where the unit is strongest. Gates are
              those of the picture; a max pool passes its own value on and the gradient of avg(x^2) / avg|x|, since its
              true gradient goes to one pixel (Olah et al. 2018, "The Building Blocks of Interpretability").
``best``      for each entry by itself the largest gradient that any gates and any routing through the pools allow;
              defined in :mod:`cutaway.circuits.paths.bounds`. What the unit could be shown to like: it never cancels.

All three are gradients of the target before the nonlinearity that ends at it, for many targets in one batched
vector-Jacobian product. Positions are relative: the window is the support of the linearized path.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from cutaway.circuits.paths.bounds import best_case
from cutaway.circuits.paths.operations import ACTIVATIONS, MAX_POOLS, NEUTRAL, averaged, given
from cutaway.circuits.paths.pictures import natural, pixels_of, with_pixels
from cutaway.circuits.paths.probing import SIZES, no_path, probe_paths
from cutaway.circuits.paths.trace import Call, Path, Rule, spatial_pair, trace
from cutaway.errors import BadInput, NotTestable, UnknownName
from cutaway.networks.network import Batch, Network
from cutaway.networks.sites import Address, Site

VERSIONS = ("average", "smoothed", "best")
_MOST_NUMBERS = 1 << 25  # of the widest map times the targets of one batch: 128 MB
_WIDEST = 300  # positions of a source map that a unit may see all of before we call its window the whole map
_CROPS = 32  # at once
_CROP_SHARE = 0.5  # of a picture's side, so that there are positions to choose from
_LINEAR = 1e-3  # the linearized path's gradients at two inputs differ by less, relative to the largest


def expanded_weights(
    network: Network,
    source: str,
    target: str | Address | Sequence[str | Address],
    *,
    version: str = "average",
    stimuli: Any = None,
    count: int = 16,
    seed: int = 0,
) -> Float[Tensor, "target source y x"]:
    """The weights from every channel of ``source``, over a window, to target units some layers later.

    ``target`` is an address (``"conv4_1:12"``), several of one site, or a site for all of its units. ``version`` is
    ``average``, ``smoothed`` or ``best``; see the module for what each means. ``stimuli`` (default: built-in
    photographs, at most ``count``, drawn with ``seed``) are shown in the smoothed version only. The unit is target
    activation per source activation. Raises ``BadInput`` where no path leads from source to target, ``NotTestable``
    where the unit sees the whole map, as behind global pooling.
    """
    if version not in VERSIONS:
        raise UnknownName(
            "version of expanded weights", str(version), VERSIONS, f"Choose one of {', '.join(VERSIONS)}."
        )
    units, view = _prepared(network, source, target)
    if version == "best":
        return view.cut(_bounds(view, units)[0])
    if version == "average":
        return view.cut(_average(view, units))
    return _smoothed(network, view, units, natural(network, stimuli, count=count, seed=seed))


def weight_bounds(
    network: Network, source: str, target: str | Address | Sequence[str | Address]
) -> tuple[Float[Tensor, "target source y x"], Float[Tensor, "target source y x"]]:
    """The smallest and the largest gradient that gates allow, entry by entry: ``low <= 0 <= high`` behind a gate."""
    units, view = _prepared(network, source, target)
    high, low = _bounds(view, units)
    return view.cut(low), view.cut(high)


# -- the window --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _View:
    """A path on one input size, the target position that is looked at, and the window of the source it sees."""

    source: Site
    target: Site
    path: Path
    pixels: int
    place: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]

    def cut(self, maps: Tensor) -> Tensor:
        """The window of gradients at the source."""
        return maps[..., slice(*self.rows), slice(*self.columns)].clone()


def _prepared(network: Network, source: str, target: Any) -> tuple[list[int], _View]:
    name, units = _targets(network, target)
    first, last = spatial_pair(network, source, name)
    view = _view(network, first, last, SIZES)
    width = view.path.target.shape[1]
    return (list(range(width)) if units is None else units), view


def _targets(network: Network, target: Any) -> tuple[str, list[int] | None]:
    """The target site and its units; None for all of them."""
    if isinstance(target, str) and ":" not in target:
        return network.site(target).name, None
    listed = [target] if isinstance(target, (str, Address)) else list(target)
    if not listed:
        raise BadInput("Expanded weights of no unit were asked for; name at least one address, such as conv4_1:12.")
    addresses = [network.address(each) for each in listed]
    if len({each.site for each in addresses}) > 1:
        raise BadInput(
            f"Expanded weights of units of several sites ({', '.join(sorted({a.site for a in addresses}))}) were asked "
            "for; ask for one site at a time."
        )
    return addresses[0].site, [each.unit for each in addresses]


def _view(network: Network, source: Site, target: Site, sizes: tuple[int, ...]) -> _View:
    """The smallest probe on which the window of the target's middle position lies inside the source map."""
    for pixels, path in probe_paths(network, source, target, room=1, sizes=sizes):
        inner = _before_target(path)
        place = ((inner.target.shape[-2] - 1) // 2, (inner.target.shape[-1] - 1) // 2)
        support = _support(inner, place)
        (top, bottom), (left, right) = (_span(support.any(axis)) for axis in (1, 0))
        if top > 0 and left > 0 and bottom < support.shape[0] and right < support.shape[1]:
            return _View(source, target, inner, pixels, place, (top, bottom), (left, right))
        if min(support.shape) > _WIDEST:
            break
    raise NotTestable(
        f"Expanded weights from {source.name} to {target.name} were asked for, and a unit there sees the whole map, "
        "so they have no window of their own; choose sites that are closer, or a target before global pooling."
    )


def _before_target(path: Path) -> Path:
    """The path without the nonlinearity that ends at the target."""
    end, givers = path.end, {call.gives: call for call in path.calls}
    while end in givers and givers[end].name in ACTIVATIONS | NEUTRAL and givers[end].takes[0] != path.start:
        end = givers[end].takes[0]
    inner = path.between(path.start, end)
    return Path(inner.calls, inner.start, inner.end, path.source, inner.target)


def _support(path: Path, place: tuple[int, int]) -> Tensor:
    """Where some path leads to the place, over all channels of both sites, whether or not paths cancel."""
    try:  # from the interval [-1, 1] for every target the bounds grow with every path
        pairs = torch.zeros_like(path.source).repeat(2, 1, 1, 1).requires_grad_()
        seen = path.replay(pairs, best_case)[:, :, place[0], place[1]].sum(1)
        (gradient,) = torch.autograd.grad(seen[0] - seen[1], pairs)
    except NotTestable:  # a function whose sign is not known: a random mixture of targets, which hardly ever cancels
        mixture = torch.randn(path.target.shape[1], generator=torch.Generator().manual_seed(0)).to(path.target)
        x = path.source.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(path.replay(x, _linearized)[0, :, place[0], place[1]] @ mixture, x)
    return gradient.abs().amax((0, 1)) > 0


def _span(marks: Tensor) -> tuple[int, int]:
    places = marks.nonzero().flatten()
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)


# -- three versions ----------------------------------------------------------------------------------------------


def _linearized(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    if call.name in ACTIVATIONS:
        return given(args, kwargs)
    if call.name in MAX_POOLS:
        return averaged(given(args, kwargs), call.name, args, kwargs)
    return None


def _average(view: _View, units: list[int]) -> Tensor:
    x = torch.zeros_like(view.path.source)
    gradients = _gradients(view, units, x, _linearized)[0]
    elsewhere = _gradients(view, units[:1], view.path.source, _linearized)[0]
    if float((gradients[:1] - elsewhere).abs().max()) > _LINEAR * float(elsewhere.abs().max()):
        raise NotTestable(
            f"Between {view.source.name} and {view.target.name} maps are multiplied with each other, so replacing "
            "nonlinearities does not make it linear; ask for the smoothed version."
        )
    return gradients


def _bounds(view: _View, units: list[int]) -> tuple[Tensor, Tensor]:
    shape = (2, *view.path.source.shape[1:])
    high, low = _gradients(view, units, view.path.source.new_zeros(shape), best_case)
    return high, low


def _gradients(view: _View, units: list[int], x: Tensor, rule: Rule) -> list[Tensor]:
    """Gradients of the units at the view's place: for each row of ``x`` a tensor ``[target source y x]``."""
    leaf = x.detach().clone().requires_grad_()
    out = view.path.replay(leaf, rule)[:, :, view.place[0], view.place[1]]
    widest = max([leaf.numel(), *(len(x) * _numbers(call) for call in view.path.calls)])
    step = max(1, _MOST_NUMBERS // widest)
    parts = []
    for start in range(0, len(units), step):
        chosen = torch.tensor(units[start : start + step], device=out.device)
        pick = functional.one_hot(chosen, out.shape[1]).to(out)[:, None].expand(-1, len(x), -1)
        parts.append(torch.autograd.grad(out, leaf, pick, is_grads_batched=True, retain_graph=True)[0])
    return list(torch.cat(parts).unbind(1))


def _numbers(call: Call) -> int:
    size = 1
    for side in call.shape[1:]:
        size *= side
    return size


def _smooth(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Max pools pass their own value on, and the gradient of avg(x^2) / avg|x|."""
    if call.name not in MAX_POOLS:
        return None
    x = given(args, kwargs)
    squares, sizes = (averaged(each, call.name, args, kwargs) for each in (x.square(), x.abs()))
    smooth = squares / sizes.clamp(min=1e-12)
    value = call.function(*args, **kwargs)
    value = value if call.pick is None else value[call.pick]
    return smooth + (value - smooth).detach()


def _smoothed(network: Network, view: _View, units: list[int], batches: Iterator[Batch]) -> Tensor:
    """The mean over pictures of each unit's gradient where it is strongest."""
    total, shown = torch.zeros(()), 0
    for batch in batches:
        if shown == 0:
            view = _roomier(network, view, min(pixels_of(batch).shape[-2:]))
        total = total + _picture_gradients(network, view, units, batch)
        shown += len(batch)
    if shown == 0:
        raise BadInput("Smoothed expanded weights need pictures, and none could be used; give at least one.")
    return total / shown


def _roomier(network: Network, view: _View, side: int) -> _View:
    """The view on the next larger probe where pictures are large enough, so that a crop's border is farther away."""
    if view.pixels > side:
        raise NotTestable(
            f"The window of {view.target.name} on {view.source.name} needs pictures of {view.pixels} pixels a side; "
            f"they have {side}, so show larger ones or choose sites that are closer."
        )
    larger = tuple(size for size in SIZES if view.pixels < size <= _CROP_SHARE * side)[:1]
    return _view(network, view.source, view.target, larger) if larger else view


def _picture_gradients(network: Network, view: _View, units: list[int], batch: Batch) -> Tensor:
    """Each unit's gradients, summed over the pictures of a batch: ``[unit source y x]``."""
    corners = _strongest(network, view, units, batch)
    pairs = [(index, picture) for index in range(len(units)) for picture in range(len(batch))]
    pixels, side = pixels_of(batch), view.pixels
    total = view.cut(view.path.source).new_zeros(len(units), *view.cut(view.path.source[0]).shape)
    for start in range(0, len(pairs), _CROPS):
        chosen = pairs[start : start + _CROPS]
        places = [(picture, *corners[index, picture].tolist()) for index, picture in chosen]
        crops = torch.stack([pixels[picture, :, y : y + side, x : x + side] for picture, y, x in places])
        rows = torch.tensor([index for index, _ in chosen], device=total.device)
        found = _crop_gradients(network, view, [units[index] for index, _ in chosen], with_pixels(batch, crops))
        total.index_add_(0, rows, view.cut(found))
    return total


def _strongest(network: Network, view: _View, units: list[int], batch: Batch) -> Int[Tensor, "unit picture 2"]:
    """The upper left pixel of the crop in whose middle position each unit is strongest, for each picture."""
    with torch.no_grad():
        acts = network.run(batch, capture=[view.target.name], stop_at=True)[view.target.name][:, units]
    sizes, probe = acts.shape[-2:], view.path.target.shape[-2:]
    sides = pixels_of(batch).shape[-2:]
    room = [full - small for full, small in zip(sizes, probe)]
    steps = [(side - view.pixels) // free if free else 0 for side, free in zip(sides, room)]
    (y, x), (down, right) = view.place, room
    inner = acts[:, :, y : y + down + 1, x : x + right + 1].transpose(0, 1)
    best = inner.flatten(2).argmax(2)
    return torch.stack([best // (right + 1) * steps[0], best % (right + 1) * steps[1]], dim=2)


def _crop_gradients(network: Network, view: _View, units: list[int], batch: Batch) -> Tensor:
    """The smoothed gradient of one unit for each crop, at its middle position: ``[crop source y x]``."""
    with torch.no_grad():
        path = trace(network, view.source, view.target, batch, check=False)  # the probe's was checked
    if path is None:
        raise no_path(view.source.name, view.target.name)
    path = _before_target(path)
    leaf = path.source.clone().requires_grad_()
    out = path.replay(leaf, _smooth)[:, :, view.place[0], view.place[1]]
    picked = out.gather(1, torch.tensor(units, device=out.device)[:, None])
    return torch.autograd.grad(picked.sum(), leaf)[0]
