"""From a name, a path, a hub id or a module to a :class:`Network`.

    zoo name            vgg16-hed                      fetched once, verified by hash
    local folder        ./my-model                     transformers layout: config.json and weights
    compiled program    compiled:reverse               compiled when asked for; or the folder of one (docs/compiled.md)
    GGUF file           ./model.gguf                   dequantized, converted once, kept in the cache
    weight file         ./model.safetensors            beside its config.json, or of a zoo architecture
    hub id              org/name                       where there is a network connection
    local code          module:FILE.py:FUNCTION        runs the user's own function, and says so
    object              any torch.nn.Module            the same as :func:`wrap`

Weights are read as data only. Code that came with a checkpoint is never run.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.errors import BadInput, UnknownName
from cutaway.networks.families import FAMILIES, family_of
from cutaway.networks.families.generic import traced_sites
from cutaway.networks.network import Network, Readout, first_tensor


def load(
    source: str | Path | nn.Module,
    *,
    tokenizer: Any = None,
    preprocess: Callable[[Any], Tensor] | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Network:
    """The network that ``source`` names, ready to run: in evaluation mode, on ``device``, in ``dtype``.

    ``progress`` is told, in a sentence, of each step that may take time. Raises :class:`UnknownName` for a name that
    is nothing of the above, :class:`BadFile` for damaged or hostile files, :class:`Unavailable` without a connection.
    """
    say = progress or (lambda _sentence: None)
    if isinstance(source, nn.Module):
        network = wrap(source, tokenizer=tokenizer, preprocess=preprocess)
    else:
        network = _from_name(str(source), say)
        network = _with_overrides(network, tokenizer, preprocess)
    if device is not None or dtype is not None:
        network.module.to(device=_device(device), dtype=_dtype(dtype))
    return network


def wrap(
    module: nn.Module,
    *,
    name: str | None = None,
    tokenizer: Any = None,
    preprocess: Callable[[Any], Tensor] | None = None,
    example: Any = None,
    family: str | None = None,
    task: str | None = None,
    modality: str | None = None,
    labels: tuple[str, ...] = (),
    readout: Readout = first_tensor,
    description: str = "",
    source: str = "",
    notes: tuple[str, ...] = (),
) -> Network:
    """Any module as a network; the module itself is left as it is (but for being put in evaluation mode).

    With an ``example`` input, a module without a family of its own is traced once: its sites are then in true order,
    with known widths, and parts that run twice are told apart.
    """
    family_name, found = (family, FAMILIES[family]) if family else family_of(module)
    module.eval()
    sites = traced_sites(module, example) if example is not None and family_name == "generic" else found.sites(module)
    if not sites:
        raise BadInput(
            f"{type(module).__name__} has no parts whose output could be seen; wrap a module with submodules."
        )
    return Network(
        name=name or type(module).__name__.lower(),
        module=module,
        family=family_name,
        site_list=sites,
        modality=modality or _modality(found.modality, tokenizer, preprocess),
        task=task or found.task(module),
        description=description or f"a {type(module).__name__} module",
        tokenizer=tokenizer,
        preprocess=preprocess,
        readout=readout,
        labels=labels,
        notes=notes,
        source=source,
    )


def _modality(named: str, tokenizer: Any, preprocess: Any) -> str:
    if named != "tensor":
        return named
    return "text" if tokenizer is not None else "image" if preprocess is not None else "tensor"


def _from_name(source: str, say: Callable[[str], None]) -> Network:
    from cutaway.networks.zoo import ZOO

    if source in ZOO:
        return _from_zoo(source, say)
    if source.startswith("module:"):
        return _from_code(source, say)
    if source.startswith("compiled:"):
        from cutaway.networks.compiled import named

        return named(source.removeprefix("compiled:"))
    path = Path(source).expanduser()
    if path.is_dir():
        return _from_folder(path, source)
    if path.is_file():
        return _from_file(path, source, say)
    if source.count("/") == 1 and not source.startswith((".", "/", "~")) and path.suffix != ".gguf":
        from cutaway.networks._huggingface import from_hub

        return from_hub(source, say)
    raise UnknownName(
        "network", source, ZOO, "List the embedded ones: cutaway zoo. Or give a folder, a file, or org/name."
    )


def _from_folder(path: Path, source: str) -> Network:
    from cutaway.networks import compiled
    from cutaway.networks._huggingface import from_folder

    if compiled.is_compiled(path):
        return compiled.from_folder(path, name=path.resolve().name, source=source)
    return from_folder(path, name=path.resolve().name, source=source)


def _from_zoo(name: str, say: Callable[[str], None]) -> Network:
    from cutaway.networks import zoo

    entry = zoo.ZOO[name]
    if entry.modality == "text":
        from cutaway.networks._huggingface import from_folder

        network = from_folder(zoo.hf_folder(name, progress=say), name=name, source=name)
        return dataclasses.replace(network, description=entry.description)
    return wrap(
        zoo.build_vision(name, progress=say),
        name=name,
        preprocess=entry.preprocess,
        example=torch.zeros(1, 3, 64, 64),
        task=entry.task,
        modality="image",
        description=entry.description,
        source=name,
    )


def _from_file(path: Path, source: str, say: Callable[[str], None]) -> Network:
    from cutaway.networks import _single_files, inception
    from cutaway.networks._huggingface import from_gguf
    from cutaway.networks.files import format_of, read_tensors

    if format_of(path).lower() == "gguf":
        return from_gguf(path, source, say)
    if (path.parent / "config.json").is_file():
        return _from_folder(path.parent, source)
    tensors = read_tensors(path)
    if inception.layout_of(tensors) is not None:
        return inception.from_tensors(tensors, path)
    module, entry = _single_files.known_architecture(tensors, path)
    return wrap(
        module,
        name=path.stem,
        preprocess=entry.preprocess,
        task=entry.task,
        modality="image",
        description=f"weights of {path.name} in the architecture of {entry.name}",
        source=source,
    )


def _from_code(source: str, say: Callable[[str], None]) -> Network:
    """``module:FILE.py:FUNCTION``: the user's own code, which returns a module or a Network."""
    import importlib.util

    parts = source.split(":")
    if len(parts) != 3 or not parts[1] or not parts[2]:
        raise BadInput(f"{source!r} was given for local code; write module:FILE.py:FUNCTION.")
    path = Path(parts[1]).expanduser()
    if not path.is_file():
        raise BadInput(f"{source!r} names the file {path}, which is not there; give the path of a Python file.")
    say(f"Running your own code: {parts[2]}() in {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise BadInput(f"{path} is not a Python file; give one that ends in .py.")
    code = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(code)
        function = getattr(code, parts[2])
        made = function()
    except AttributeError as error:
        if hasattr(code, parts[2]):
            raise BadInput(f"{parts[2]}() in {path} failed: {error}.") from error
        names = [name for name, value in vars(code).items() if callable(value) and not name.startswith("_")]
        raise UnknownName(f"function in {path.name}", parts[2], names) from error
    except Exception as error:
        raise BadInput(f"{parts[2]}() in {path} failed with {type(error).__name__}: {error}.") from error
    if isinstance(made, nn.Module):
        made = wrap(made, name=f"{path.stem}.{parts[2]}", source=source, notes=(f"built by local code: {source}",))
    if not isinstance(made, Network):
        raise BadInput(f"{parts[2]}() in {path} returned {type(made).__name__}; return a torch.nn.Module or a Network.")
    return made if made.source else dataclasses.replace(made, source=source)


def _with_overrides(network: Network, tokenizer: Any, preprocess: Any) -> Network:
    changes = {key: value for key, value in (("tokenizer", tokenizer), ("preprocess", preprocess)) if value is not None}
    return dataclasses.replace(network, **changes) if changes else network


def _device(name: str | torch.device | None) -> torch.device | None:
    if name is None:
        return None
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BadInput(f"Device {str(name)!r} was asked for and is not usable here; use cpu.") from error
    return device


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype):
        raise BadInput(f"Type {dtype!r} was asked for; use float32, bfloat16 or float16.")
    return found
