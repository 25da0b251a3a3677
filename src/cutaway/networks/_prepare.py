"""From what people have (texts, images, tensors, Stimulus objects) to a batch that a network can run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cutaway.errors import BadInput, NotTestable

if TYPE_CHECKING:
    from cutaway.networks.network import Batch, Network


def prepare(network: Network, stimuli: Any, ids: Sequence[str] | None = None) -> Batch:
    """The stimuli as a batch on the network's device; see :meth:`Network.prepare`."""
    if isinstance(stimuli, Mapping):
        return _from_mapping(network, stimuli, ids)
    if isinstance(stimuli, Tensor):
        return _from_tensor(network, stimuli, ids)
    items: list[Any] = [stimuli] if isinstance(stimuli, str) or not isinstance(stimuli, Sequence) else list(stimuli)
    if not items:
        raise BadInput(f"No stimuli were given to {network.name}; give at least one.")
    names = ids if ids is not None else [getattr(item, "id", None) or _identity(item) for item in items]
    loaded = [item.load() if hasattr(item, "load") and hasattr(item, "id") else item for item in items]
    if all(isinstance(item, str) for item in loaded):
        return _from_texts(network, loaded, names)
    return _from_tensor(network, torch.stack(_same_shape([_image(network, item) for item in loaded])), names)


def prepare_rgb(network: Network, pixels: Tensor) -> Batch:
    """Pictures as RGB tensors in 0..1; see :meth:`Network.prepare_rgb`."""
    first = next((part for part in network.module.modules() if isinstance(part, nn.Conv2d)), None)
    if first is None or network.modality == "text":
        raise NotTestable(f"Pictures were to be shown to {network.name}, which has no convolution that takes them.")
    encode = getattr(network.preprocess, "encode", None)
    shown = encode(pixels) if encode is not None else pixels
    if first.in_channels == 1:
        shown = shown.mean(1, keepdim=True)
    elif first.in_channels != shown.shape[1]:
        raise NotTestable(
            f"RGB pictures were to be shown to {network.name}, which takes {first.in_channels} channels; give it "
            "tensors of its own with prepare()."
        )
    return _from_tensor(network, shown, None)


def _batch(network: Network, inputs: Mapping[str, Tensor], ids: Sequence[str] | None, mask: Tensor | None) -> Batch:
    from cutaway.networks.network import Batch

    count = len(next(iter(inputs.values())))
    names = tuple(ids) if ids is not None else tuple(str(row) for row in range(count))
    if len(names) != count:
        raise BadInput(f"{len(names)} names were given for {count} stimuli; give one for each.")
    device = network.device
    moved = {key: value.to(device) for key, value in inputs.items()}
    return Batch(moved, names, None if mask is None else mask.to(device))


def _from_texts(network: Network, texts: list[str], ids: Sequence[str] | None) -> Batch:
    if network.tokenizer is None:
        raise BadInput(f"{network.name} takes {network.modality} input and has no tokenizer; texts were given.")
    encoded = network.tokenizer(texts, return_tensors="pt", padding=True, truncation=True)
    inputs = {key: encoded[key] for key in ("input_ids", "attention_mask", "token_type_ids") if key in encoded}
    if inputs["input_ids"].shape[1] == 0 or not bool((inputs["attention_mask"].sum(1) > 0).all()):
        raise BadInput("A text without a single token was given; give at least one word.")
    return _batch(network, inputs, ids, inputs["attention_mask"].bool())


def _from_mapping(network: Network, inputs: Mapping[str, Any], ids: Sequence[str] | None) -> Batch:
    wrong = [key for key, value in inputs.items() if not isinstance(value, Tensor)]
    if wrong or not inputs:
        raise BadInput(f"Inputs must be tensors by name; {wrong[0] if wrong else 'nothing'!r} was given.")
    mask = inputs["attention_mask"].bool() if "attention_mask" in inputs else None
    if "input_ids" in inputs:
        _check_tokens(network, inputs["input_ids"])
        mask = torch.ones_like(inputs["input_ids"], dtype=torch.bool) if mask is None else mask
    return _batch(network, inputs, ids, mask)


def _from_tensor(network: Network, tensor: Tensor, ids: Sequence[str] | None) -> Batch:
    if network.modality == "text":
        _check_tokens(network, tensor)
        mask = torch.ones_like(tensor, dtype=torch.bool)
        return _batch(network, {"input_ids": tensor, "attention_mask": mask.long()}, ids, mask)
    if network.modality == "image":
        _check_image(network, tensor)
    elif tensor.ndim == 0 or len(tensor) == 0:
        raise BadInput(f"A tensor of shape {tuple(tensor.shape)} was given; its first axis must count the stimuli.")
    dtype = next((p.dtype for p in network.module.parameters()), tensor.dtype)
    tensor = tensor.to(dtype) if tensor.is_floating_point() else tensor
    key = "pixel_values" if network.module_accepts("pixel_values") else ""
    return _batch(network, {key: tensor}, ids, None)


def _check_tokens(network: Network, tokens: Tensor) -> None:
    if tokens.ndim != 2 or tokens.is_floating_point() or tokens.numel() == 0:
        raise BadInput(
            f"Tokens of shape {tuple(tokens.shape)} and type {tokens.dtype} were given; give integers [batch pos]."
        )
    size = getattr(getattr(network.module, "config", None), "vocab_size", None)
    if size is not None and not (int(tokens.min()) >= 0 and int(tokens.max()) < size):
        raise BadInput(f"Token {int(tokens.max())} was given; {network.name} knows tokens 0 to {size - 1}.")


def _check_image(network: Network, images: Tensor) -> None:
    first = next((part for part in network.module.modules() if isinstance(part, nn.Conv2d)), None)
    channels = first.in_channels if first is not None else images.shape[1] if images.ndim == 4 else 3
    if images.ndim != 4 or images.shape[1] != channels or 0 in images.shape:
        raise BadInput(
            f"Images of shape {tuple(images.shape)} were given; {network.name} takes [batch {channels} y x]."
        )


def _image(network: Network, item: Any) -> Tensor:
    if isinstance(item, Tensor):
        return item
    if isinstance(item, str):
        raise BadInput(f"Texts and other stimuli were mixed in one batch; {network.name} takes one kind at a time.")
    if network.preprocess is None:
        raise BadInput(f"{network.name} has no image preprocessing; give tensors, or wrap it with preprocess=.")
    return network.preprocess(item)


def _same_shape(tensors: list[Tensor]) -> list[Tensor]:
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        raise BadInput(f"Stimuli of shapes {sorted(shapes)} were given in one batch; give them one shape.")
    return tensors


def _identity(item: Any) -> str:
    """A stable name for a stimulus that brought none: a hash of its content."""
    if isinstance(item, str):
        content = item.encode()
    elif isinstance(item, Tensor):
        content = (
            repr(tuple(item.shape)).encode() + item.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
        )
    elif hasattr(item, "tobytes"):
        content = item.tobytes()
    else:
        raise BadInput(f"A stimulus of type {type(item).__name__} was given; give texts, images or tensors.")
    return hashlib.sha256(content).hexdigest()[:16]
