"""A network: loaded, addressable, and run in one way."""

import dataclasses
import hashlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from cutaway.errors import BadInput, UnknownName
from cutaway.networks._hooks import Recorder, execute
from cutaway.networks.edits import Edit
from cutaway.networks.sites import Address, Site, parse_address


@dataclass(frozen=True, eq=False)
class Batch:
    """Stimuli, ready to be run.

    ``inputs`` are the module's keyword arguments, or, under the key ``""``, its only positional one. ``mask`` is
    True where a position holds a real token; None where every position is real.
    """

    inputs: dict[str, Tensor]
    ids: tuple[str, ...]
    mask: Bool[Tensor, "batch pos"] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def last(self) -> Tensor:
        """The index of each stimulus's last real token, [batch]."""
        if self.mask is None and "input_ids" in self.inputs:
            count, length = self.inputs["input_ids"].shape
            return torch.full((count,), length - 1, device=self.inputs["input_ids"].device)
        if self.mask is None:
            raise BadInput("This batch holds no tokens, so it has no last token; give it texts.")
        return self.mask.long().cumsum(1).argmax(1)


@dataclass(frozen=True, eq=False)
class Run:
    """What one forward pass gave: its output (None if it was stopped before) and the captured sites by name."""

    output: Tensor | None
    batch: Batch
    captured: dict[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, site: str) -> Tensor:
        if site not in self.captured:
            raise UnknownName("captured site", site, self.captured, "Name it in capture=.")
        return self.captured[site]

    @property
    def logits(self) -> Tensor:
        """The output, for a pass that ran to its end."""
        if self.output is None:
            raise BadInput("This pass was stopped before the output; run it without stop_at.")
        return self.output


#: Turns a module's raw result into one output tensor.
Readout = Callable[[Any, Batch], Tensor]


def first_tensor(raw: Any, _batch: Batch) -> Tensor:
    """The output of modules that return a tensor, a tuple, or a transformers output object."""
    if isinstance(raw, Tensor):
        return raw
    if getattr(raw, "logits", None) is not None:
        return raw.logits
    if getattr(raw, "last_hidden_state", None) is not None:
        return raw.last_hidden_state
    values = list(raw.values()) if isinstance(raw, dict) else list(raw) if isinstance(raw, (tuple, list)) else []
    tensors = [value for value in values if isinstance(value, Tensor)]
    if not tensors:
        raise BadInput(f"The module returned {type(raw).__name__}, which holds no tensor; wrap it to return one.")
    return tensors[0]


@dataclass(frozen=True, eq=False)
class Network:
    """A trained network with named sites; ``run`` is the one way to run it.

    ``modality`` is what it is shown (image, text, tensor) and ``task`` what it answers (causal-lm, encoder,
    classifier, edges, other). ``preprocess`` turns an image into a tensor, ``tokenizer`` texts into tokens.
    """

    name: str
    module: nn.Module
    family: str
    site_list: tuple[Site, ...]
    modality: str = "tensor"
    task: str = "other"
    description: str = ""
    tokenizer: Any = None
    preprocess: Callable[[Any], Tensor] | None = None
    readout: Readout = first_tensor
    labels: tuple[str, ...] = ()  # names of the classes, where it is a classifier
    notes: tuple[str, ...] = ()  # what a reader of results must know, e.g. "weights dequantized from Q4_1"
    source: str = ""
    _cache: dict[str, Any] = field(default_factory=dict, repr=False)

    # -- places ------------------------------------------------------------------------------------------------

    def sites(self) -> list[Site]:
        """All sites, in the order of the forward pass."""
        return list(self.site_list)

    def site(self, name: str) -> Site:
        """The site of that name; an unknown name raises and suggests near ones."""
        by_name = self._cache.setdefault("by_name", {site.name: site for site in self.site_list})
        if name not in by_name:
            raise UnknownName("site", name, by_name, f"List the sites: cutaway show {self.source or self.name}")
        return by_name[name]

    def address(self, text: str | Address) -> Address:
        """A checked address: its site exists here and has that unit."""
        address = parse_address(text)
        site = self.site(address.site)
        if site.width is not None and address.unit >= site.width:
            raise BadInput(f"Unit {address.unit} of {site.name} was asked for; it has units 0 to {site.width - 1}.")
        return address

    # -- identity ----------------------------------------------------------------------------------------------

    @property
    def fingerprint(self) -> str:
        """sha256 over names, types, shapes and bytes of all parameters and buffers (64 hex digits)."""
        if "fingerprint" not in self._cache:
            self._cache["fingerprint"] = fingerprint_of(self.module)
        return self._cache["fingerprint"]

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next((p.device for p in self.module.parameters()), torch.device("cpu"))

    def parameter_count(self) -> int:
        """The number of parameters, tied ones once."""
        return sum(p.numel() for p in self.module.parameters())

    def with_module(self, module: nn.Module, suffix: str) -> "Network":
        """The same network around other weights (a twin, an edit): ``name+suffix``, its own fingerprint."""
        return dataclasses.replace(self, module=module, name=f"{self.name}+{suffix}", source="", _cache={})

    # -- running -----------------------------------------------------------------------------------------------

    def prepare(self, stimuli: Any, ids: Sequence[str] | None = None) -> Batch:
        """Texts, images, tensors or Stimulus objects as a :class:`Batch` on the network's device."""
        from cutaway.networks._prepare import prepare

        return prepare(self, stimuli, ids)

    def prepare_rgb(self, pixels: Float[Tensor, "batch 3 y x"]) -> Batch:
        """Pictures given as RGB tensors in 0..1 as a :class:`Batch` that gradients pass through; nothing is resized.

        A network without preprocessing gets the pixels as they are, or their mean over colours if it takes one
        channel. Raises ``NotTestable`` for a network that takes no pictures.
        """
        from cutaway.networks._prepare import prepare_rgb

        return prepare_rgb(self, pixels)

    def run(
        self,
        batch: Any,
        capture: Iterable[str] = (),
        edits: Iterable[Edit] = (),
        stop_at: str | bool | None = None,
        grad: bool = False,
        logits: str = "all",
    ) -> Run:
        """Runs the network once, capturing sites and applying edits on the way.

        ``batch`` is a :class:`Batch` or anything that :meth:`prepare` takes. ``capture`` names sites; a
        pass-through capture changes no bit of the output. ``edits`` are applied in order. ``stop_at`` ends the
        pass after the named site, or, with True, after the last captured one (the output is then None).
        With ``grad=True`` captured tensors are part of the graph, for ``torch.autograd.grad``. ``logits="last"``
        computes a language model's output at each stimulus's last token only: [batch 1 vocab].
        """
        batch = batch if isinstance(batch, Batch) else self.prepare(batch)
        captured = [self.site(name) for name in dict.fromkeys(capture)]
        edited = [(self.site(edit.site), edit) for edit in edits]
        stops = _stops(stop_at, captured, self)
        record, output = self._pass(batch, captured, edited, stops, grad, logits, clone=self._works_in_place())
        if record.overwritten():
            # A module wrote into what was captured: remember it, and keep copies from now on.
            self._cache["in_place"] = True
            record, output = self._pass(batch, captured, edited, stops, grad, logits, clone=True)
        missing = [site.name for site in captured if site.name not in record.captured]
        if missing:
            raise BadInput(
                f"Site {missing[0]} was not reached in this pass; the network does not use it on this input."
            )
        return Run(output, batch, record.captured)

    def _pass(
        self,
        batch: Batch,
        captured: Any,
        edited: Any,
        stops: Sequence[Site],
        grad: bool,
        logits: str,
        clone: bool,
    ) -> tuple[Recorder, Tensor | None]:
        recorder = Recorder(captured, edited, stops, grad, clone)
        inputs, pick = self._inputs(batch, logits)

        def forward() -> Any:
            return self.module(inputs[""]) if "" in inputs else self.module(**inputs)

        raw, finished = execute(self.module, forward, recorder, grad=grad)
        output = self.readout(raw, batch) if finished else None
        return recorder, output if output is None or pick is None else pick(output)

    def _inputs(self, batch: Batch, logits: str) -> tuple[dict[str, Any], Callable[[Tensor], Tensor] | None]:
        if logits not in ("all", "last"):
            raise BadInput(f"Logits at {logits!r} were asked for; choose all or last.")
        inputs: dict[str, Any] = dict(batch.inputs)
        if self.tokenizer is not None and self.module_accepts("use_cache"):
            inputs["use_cache"] = False
        if logits == "all":
            return inputs, None
        if self.task != "causal-lm":
            raise BadInput(f"The last token's logits were asked for; {self.name} is not a language model.")
        rows = torch.arange(len(batch), device=self.device)
        if not self.module_accepts("logits_to_keep"):
            return inputs, lambda output: output[rows, batch.last][:, None]
        kept, place = torch.unique(batch.last, return_inverse=True)
        return {**inputs, "logits_to_keep": kept}, lambda output: output[rows, place][:, None]

    def _works_in_place(self) -> bool:
        if "in_place" not in self._cache:
            self._cache["in_place"] = any(getattr(part, "inplace", False) for part in self.module.modules())
        return self._cache["in_place"]

    def module_accepts(self, argument: str) -> bool:
        """True if the module's forward names this argument."""
        key = f"accepts {argument}"
        if key not in self._cache:
            parameters = inspect.signature(self.module.forward).parameters
            self._cache[key] = argument in parameters
        return self._cache[key]


def _stops(stop_at: str | bool | None, captured: Sequence[Site], network: Network) -> list[Site]:
    if stop_at is None or stop_at is False:
        return []
    if stop_at is not True:
        return [network.site(stop_at)]
    if not captured:
        raise BadInput("The pass was to stop after the last captured site, and none was named; name one in capture=.")
    return list(captured)


def fingerprint_of(module: nn.Module) -> str:
    """sha256 over names, types, shapes and bytes of a module's state (64 hex digits)."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if not isinstance(tensor, Tensor):
            continue
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return digest.hexdigest()
