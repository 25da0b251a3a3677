"""Single weight files from anywhere: GGUF files, and state dicts of an architecture that the zoo knows."""

import math
import shutil
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from cutaway.errors import BadFile, BadInput
from cutaway.networks.files import format_of, read_tensors
from cutaway.networks.files.safetensors_file import checked_header
from cutaway.networks.zoo import ZOO, ZooEntry, cache_folder
from cutaway.networks.zoo.build import VISION
from cutaway.networks.zoo.cache import sha256_of
from cutaway.networks.zoo.convert import convert_gguf, hed_names, lite_names


def converted_gguf(path: Path) -> Path:
    """A folder of the cache with the dequantized weights of a GGUF file, made once and named by its hash."""
    folder = cache_folder() / "gguf" / sha256_of(path)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".making-"))
    try:
        convert_gguf(path, workplace)
        workplace.replace(folder)
    except BadFile:
        raise
    except OSError as error:
        if not folder.is_dir():  # another process may have been faster
            raise BadInput(
                f"{path.name} could not be converted into {folder.parent}: {error}; make room there."
            ) from error
    except Exception as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise BadFile(f"{path} is a GGUF file that cannot be loaded as a language model: {first_line}") from error
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    return folder


def tensor_sizes(path: Path) -> dict[str, int]:
    """The number of values of every tensor in a weight file, after its header was checked."""
    if format_of(path).lower() == "safetensors":
        return {name: math.prod(entry["shape"]) for name, entry in checked_header(path).items()}
    return {name: tensor.numel() for name, tensor in read_tensors(path).items()}


def known_architecture(tensors: dict[str, Tensor], path: Path) -> tuple[nn.Module, ZooEntry]:
    """The zoo architecture whose parameters these tensors fill, under its own or the published names."""
    for rename in (dict, _renamed_or_none(hed_names), _renamed_or_none(lite_names)):
        named = rename(tensors)
        for name, make in VISION.items():
            with torch.device("meta"):
                shapes = {key: tuple(value.shape) for key, value in make().state_dict().items()}
            if named is not None and {key: tuple(value.shape) for key, value in named.items()} == shapes:
                module = make()
                module.load_state_dict(named, strict=True)
                return module.eval(), ZOO[name]
    raise BadInput(
        f"{path} holds {len(tensors)} tensors and no architecture, and they fit none of {', '.join(VISION)}; put the "
        "network's config.json beside it, or build the module yourself: module:FILE.py:FUNCTION."
    )


def _renamed_or_none(rename):
    def attempt(tensors: dict[str, Tensor]) -> dict[str, Tensor] | None:
        try:
            return rename(tensors)
        except (KeyError, IndexError, RuntimeError):
            return None  # the names or shapes are not of this architecture

    return attempt
