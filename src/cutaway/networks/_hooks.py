"""One forward pass with captures and edits: hooks go on, the pass runs, hooks come off, whatever happens."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.errors import BadInput
from cutaway.networks._attention import Taps, tapped
from cutaway.networks.edits import Edit
from cutaway.networks.sites import Site

_ATTENTION_PORTS = ("pattern", "query", "key", "value")


class Stopped(BaseException):
    """Ends a forward pass early; a BaseException so that no ``except Exception`` in a model's code swallows it."""


class Recorder:
    """What one pass captures and edits, keyed by site; ``done`` tells when nothing more is needed."""

    def __init__(
        self,
        capture: Sequence[Site],
        edits: Sequence[tuple[Site, Edit]],
        stop_after: Sequence[Site],
        grad: bool,
        clone: bool,
    ) -> None:
        self.capture = {site.name for site in capture}
        self.edits: dict[str, list[Edit]] = {}
        for site, edit in edits:
            self.edits.setdefault(site.name, []).append(edit)
        self.sites = {site.name: site for site in [*capture, *stop_after, *(site for site, _ in edits)]}
        self.stops = bool(stop_after)
        self.waiting = {site.name for site in stop_after}
        self.grad, self.clone = grad, clone
        self.captured: dict[str, Tensor] = {}
        self.versions: dict[str, int] = {}
        self.calls: Counter[tuple[str, str]] = Counter()

    def see(self, site: Site, tensor: Tensor) -> Tensor | None:
        """Shows a site's tensor; returns another tensor if the pass must go on with that one."""
        value = site.view(tensor)
        for edit in self.edits.get(site.name, ()):
            value = edit.apply(value, site)
        captured = site.name in self.capture
        if captured and self.grad and not value.requires_grad:
            value = value.detach().requires_grad_()
        if captured:
            # Where later modules work in place, the pass goes on with one copy and we keep the other.
            self.captured[site.name] = value.clone() if self.clone and not self.grad else value
            self.versions[site.name] = self.captured[site.name]._version
            value = value.clone() if self.clone and self.grad else value
        self.waiting.discard(site.name)
        changed = site.name in self.edits or (captured and self.grad)
        return site.unview(value) if changed else None

    @property
    def done(self) -> bool:
        """True when every site to stop after has been seen."""
        return self.stops and not self.waiting

    def overwritten(self) -> bool:
        """True if a captured tensor was changed in place by a later module (an in-place ReLU, say)."""
        return any(self.captured[name]._version != version for name, version in self.versions.items() if not self.clone)


@contextmanager
def hooked(module: nn.Module, recorder: Recorder, capturing_grad: bool) -> Iterator[None]:
    """Installs the recorder's hooks on ``module`` and removes every one of them on leaving."""
    handles: list[Any] = []
    taps: dict[nn.Module, Taps] = {}
    try:
        for (path, port), sites in _by_place(recorder).items():
            target = module.get_submodule(path)
            if port in _ATTENTION_PORTS:
                taps.setdefault(target, {})[port] = _tap(recorder, sites[0])
            elif port == "input":
                handles.append(target.register_forward_pre_hook(_before(recorder, sites), with_kwargs=True))
            else:
                handles.append(target.register_forward_hook(_after(recorder, sites)))
        with tapped(module, taps, explicit=capturing_grad):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _by_place(recorder: Recorder) -> dict[tuple[str, str], list[Site]]:
    places: dict[tuple[str, str], list[Site]] = {}
    for site in recorder.sites.values():
        places.setdefault((site.module, site.port), []).append(site)
    return places


def _show(recorder: Recorder, sites: list[Site], tensor: Any, place: tuple[str, str]) -> Tensor | None:
    call = recorder.calls[place]
    recorder.calls[place] += 1
    changed = None
    for site in sites:
        if site.call != call:
            continue
        if not isinstance(tensor, Tensor):
            raise BadInput(f"Site {site.name} carries {type(tensor).__name__}, not a tensor; choose another site.")
        seen = recorder.see(site, tensor)
        if seen is not None:
            tensor = changed = seen
    return changed


def _after(recorder: Recorder, sites: list[Site]) -> Callable[..., Any]:
    place = (sites[0].module, "output")

    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        wrapped = isinstance(output, (tuple, list))
        changed = _show(recorder, sites, output[0] if wrapped else output, place)
        if recorder.done:
            raise Stopped
        if changed is None:
            return None
        return type(output)([changed, *output[1:]]) if wrapped else changed

    return hook


def _before(recorder: Recorder, sites: list[Site]) -> Callable[..., Any]:
    place = (sites[0].module, "input")

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key = None if args else next(iter(kwargs))
        changed = _show(recorder, sites, args[0] if key is None else kwargs[key], place)
        if recorder.done:
            raise Stopped
        if changed is None:
            return None
        return ((changed, *args[1:]), kwargs) if key is None else (args, {**kwargs, key: changed})

    return hook


def _tap(recorder: Recorder, site: Site) -> Callable[[Tensor], Tensor | None]:
    def tap(tensor: Tensor) -> Tensor | None:
        seen = recorder.see(site, tensor)
        if recorder.done:
            raise Stopped
        return seen

    return tap


def execute(module: nn.Module, forward: Callable[[], Any], recorder: Recorder, *, grad: bool) -> tuple[Any, bool]:
    """Runs ``forward`` under the recorder's hooks; returns its result and whether it ran to the end."""
    wants_pattern = any(recorder.sites[name].port == "pattern" for name in recorder.capture)
    with hooked(module, recorder, capturing_grad=grad and wants_pattern), torch.set_grad_enabled(grad):
        try:
            return forward(), True
        except Stopped:
            return None, False
