"""How one site is computed from another: the calls between them in a real forward pass, which can be run again.

Three ways were open. ``torch.fx`` reads the code and breaks on what it cannot follow. Hooks on modules do not see what
is computed between modules (residual sums, padding). The autograd graph sees everything but names nothing and keeps
its arguments private. So the pass runs under a ``TorchFunctionMode``, a public door of torch that is shown every torch
function with its arguments: each call that depends on the source is written down, and the list of those that the
target depends on is a small program, :class:`Path`. For another source it must give the target that the network gives;
it is checked, so that a network that hides its work (a compiled module, say) is refused and never misread.

No module is changed; hooks, which only tell which module is at work, come off whatever happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cutaway.circuits.paths.operations import plain_name
from cutaway.errors import BadInput, NotTestable
from cutaway.networks.edits import Replace
from cutaway.networks.network import Batch, Network
from cutaway.networks.sites import Site

Key = tuple[int, int]
#: Replaces one call in a replay: given the call and its arguments, the result, or None to do what the network does.
Rule = Callable[["Call", tuple[Any, ...], dict[str, Any]], Tensor | None]
_AGREES = 1e-3  # relative to the target's largest value; float32 convolutions differ by about 1e-6


@dataclass(frozen=True, eq=False)
class Call:
    """One torch function that was called: which numbered tensors it was given, and which it gave.

    ``args`` and ``kwargs`` are as in the pass; ``places`` says where in them (a path of indices and names) the tensors
    stood that depend on the source, with their numbers. ``shape`` is that of the result.
    """

    function: Any
    name: str
    module: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    places: tuple[tuple[tuple[Any, ...], int], ...]
    gives: int
    shape: tuple[int, ...]
    in_place: bool
    pick: int | None = None
    """The index of the result in what the function returns, if it returns several."""

    @property
    def label(self) -> str:
        """What a reader calls it: the module's path, or the function inside a module with parts."""
        return self.module or self.name

    @property
    def takes(self) -> tuple[int, ...]:
        """The numbers of the tensors that depend on the source."""
        return tuple(number for _, number in self.places)


@dataclass(frozen=True, eq=False)
class Path:
    """The calls that lead from a source tensor (number ``start``) to a target tensor (number ``end``).

    ``source`` and ``target`` are the values that the two sites had in the pass.
    """

    calls: tuple[Call, ...]
    start: int
    end: int
    source: Tensor
    target: Tensor

    def replay(self, x: Tensor, rule: Rule | None = None) -> Tensor:
        """The target for another source tensor, everything else as in the pass; ``rule`` may replace calls."""
        values = {self.start: x}
        for call in self.calls:
            args, kwargs = _filled(call, values)
            result = None if rule is None else rule(call, args, kwargs)
            if result is None:
                result = call.function(*args, **kwargs)
                result = result if call.pick is None else result[call.pick]
            values[call.gives] = result
        return values[self.end]

    def between(self, start: int, end: int) -> Path:
        """The part of the path between two of its tensors; the values at its ends are shapes only (zeros)."""
        shapes = {call.gives: call.shape for call in self.calls} | {self.start: tuple(self.source.shape)}
        zeros = {number: self.source.new_zeros(shapes[number]) for number in (start, end)}
        return Path(_leading(self.calls, start, end), start, end, zeros[start], zeros[end])

    def without(self, dropped: Callable[[Call], bool]) -> Path | None:
        """The branches of the path that meet no dropped call; None if no branch is left."""
        kept = tuple(call for call in self.calls if not dropped(call))
        calls = _leading(_reached(kept, self.start), self.start, self.end)
        return Path(calls, self.start, self.end, self.source, self.target) if calls else None


def trace(network: Network, source: Site, target: Site, batch: Batch, *, check: bool = True) -> Path | None:
    """The path from ``source`` to ``target`` in one pass over ``batch``; None if the target does not depend on it.

    With ``check``, raises :class:`NotTestable` if replaying what was seen does not give what the network gives.
    """
    tracer = _Tracer()
    edits = (Replace(source.name, tracer.begin), Replace(target.name, tracer.end))
    with tracer.naming(network.module), tracer:
        network.run(batch, edits=edits, stop_at=target.name)
    path = tracer.path()
    if path is not None and check:
        _check(path, network, source, target, batch)
    return path


class _Tracer(TorchFunctionMode):
    """Writes down the calls that depend on the tensor shown to ``begin``, until one is shown to ``end``.

    A tensor is known by its identity and its version, which every in-place operation raises.
    """

    def __init__(self) -> None:
        super().__init__()
        self._numbers: dict[Key, int] = {}
        self._calls: list[Call] = []
        self._alive: list[Tensor] = []  # so that no identity is given twice
        self._modules: list[str] = []
        self._ends: tuple[int, Tensor] | None = None
        self._source: Tensor | None = None

    def begin(self, value: Tensor) -> Tensor:
        """Takes the source; the pass goes on with a copy, so that nothing writes into it."""
        self._source = value.detach().clone()
        started = value.clone()
        self._number(started)
        return started

    def end(self, value: Tensor) -> Tensor:
        """Takes the target."""
        number = self._numbers.get(_key(value))
        if number is not None:
            self._ends = (number, value.detach().clone())
        return value

    def path(self) -> Path | None:
        """The calls on the way from the source to the target."""
        if self._source is None or self._ends is None:
            return None
        end, target = self._ends
        return Path(_leading(self._calls, 0, end), 0, end, self._source, target)

    @contextmanager
    def naming(self, module: nn.Module) -> Iterator[None]:
        """While it is open, the tracer knows which module is at work."""
        handles = []
        try:
            for path, part in module.named_modules():
                handles.append(part.register_forward_pre_hook(self._enters(path)))
                handles.append(part.register_forward_hook(self._leaves(path)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        places = tuple(self._places(args, kwargs)) if self._source is not None and self._ends is None else ()
        result = func(*args, **kwargs)
        if places:
            several = isinstance(result, (tuple, list))
            for index, tensor in enumerate(result if several else [result]):
                self._record(func, args, kwargs, places, tensor, index if several else None)
        return result

    def _record(self, func: Any, args: Any, kwargs: Any, places: Any, result: Any, pick: int | None) -> None:
        if not isinstance(result, Tensor) or not result.is_floating_point() or _key(result) in self._numbers:
            return
        in_place = any(self._alive[number] is result for _, number in places)
        gives = self._number(result)
        name = plain_name(func)
        label = self._label(name)
        self._calls.append(
            Call(func, name, label, tuple(args), dict(kwargs), places, gives, tuple(result.shape), in_place, pick)
        )

    def _label(self, name: str) -> str:
        path, has_parts = self._modules[-1].split("|") if self._modules else ("", "parts")
        return path if path and not has_parts else ".".join(part for part in (path, name) if part)

    def _number(self, tensor: Tensor) -> int:
        self._numbers[_key(tensor)] = len(self._alive)
        self._alive.append(tensor)
        return len(self._alive) - 1

    def _places(self, args: Any, kwargs: Any) -> Iterator[tuple[tuple[Any, ...], int]]:
        for index, value in [*enumerate(args), *kwargs.items()]:
            if isinstance(value, Tensor):
                if _key(value) in self._numbers:
                    yield (index,), self._numbers[_key(value)]
            elif isinstance(value, (tuple, list)):
                for inner, each in enumerate(value):
                    if isinstance(each, Tensor) and _key(each) in self._numbers:
                        yield (index, inner), self._numbers[_key(each)]

    def _enters(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, _args: Any) -> None:
            self._modules.append(f"{path}|{'parts' if any(True for _ in module.children()) else ''}")

        return hook

    def _leaves(self, _path: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, _output: Any) -> None:
            self._modules.pop()

        return hook


def _key(tensor: Tensor) -> Key:
    return id(tensor), tensor._version


def _filled(call: Call, values: dict[int, Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The call's arguments with the tensors of this replay in their places."""
    args, kwargs = list(call.args), dict(call.kwargs)
    for (index, *inner), number in call.places:
        value = values[number].clone() if call.in_place else values[number]
        holder: Any = kwargs if isinstance(index, str) else args
        if inner:
            held = list(holder[index])
            held[inner[0]] = value
            holder[index] = held
        else:
            holder[index] = value
    return tuple(args), kwargs


def _reached(calls: Iterable[Call], start: int) -> tuple[Call, ...]:
    """The calls that depend on ``start``, with the places of other tensors left as they were in the pass."""
    known, kept = {start}, []
    for call in calls:
        places = tuple(place for place in call.places if place[1] in known)
        if places:
            known.add(call.gives)
            kept.append(_with_places(call, places))
    return tuple(kept)


def _with_places(call: Call, places: tuple[tuple[tuple[Any, ...], int], ...]) -> Call:
    return call if len(places) == len(call.places) else replace(call, places=places)


def _leading(calls: Sequence[Call], start: int, end: int) -> tuple[Call, ...]:
    """The calls between two tensors, in order."""
    needed, kept = {end}, []
    for call in reversed(_reached(calls, start)):
        if call.gives in needed:
            needed.update(call.takes)
            kept.append(call)
    return tuple(reversed(kept))


def _check(path: Path, network: Network, source: Site, target: Site, batch: Batch) -> None:
    """Both the program and the network with half the source: what the program does not see shows as a difference."""
    halved = Replace(source.name, lambda value: 0.5 * value)
    truth = network.run(batch, capture=[target.name], edits=[halved], stop_at=target.name)[target.name]
    with torch.no_grad():
        again = path.replay(0.5 * path.source)
    scale = float(truth.abs().max()) or 1.0
    if again.shape != truth.shape or float((again - truth).abs().max()) > _AGREES * scale:
        raise NotTestable(
            f"How {target.name} follows from {source.name} could not be seen in {network.name}, which hides part of "
            "its computation (compiled, or written over in place); load it in plain eager form."
        )


def spatial_pair(network: Network, source: str, target: str) -> tuple[Site, Site]:
    """The two sites by name; raises :class:`NotTestable` unless both are feature maps."""
    sites = network.site(source), network.site(target)
    for site in sites:
        if not site.spatial:
            raise NotTestable(
                f"Weights between feature maps were asked for; {site.name} of {network.name} has the axes "
                f"{site.layout!r}, so choose a site with the axes 'batch unit y x'."
            )
    if source == target:
        raise BadInput(f"Weights from {source} to itself were asked for; name two sites.")
    return sites
