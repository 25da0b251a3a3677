"""From a name of the zoo to something that runs: a torch module for pictures, a Hugging Face folder for
text.
"""

from collections.abc import Callable
from pathlib import Path

from torch import nn

from cutaway.errors import BadFile, UnknownName
from cutaway.networks.files import read_tensors
from cutaway.networks.zoo.catalogue import ZOO, entry
from cutaway.networks.zoo.convert import WEIGHTS
from cutaway.networks.zoo.fetching import Progress, fetch
from cutaway.networks.zoo.hed import VGG16HED
from cutaway.networks.zoo.lite import EfficientNetLite

VISION: dict[str, Callable[[], nn.Module]] = {
    "vgg16-hed": VGG16HED,
    "efficientnet-lite0": lambda: EfficientNetLite(0),
    "efficientnet-lite1": lambda: EfficientNetLite(1),
    "efficientnet-lite2": lambda: EfficientNetLite(2),
}


def build_vision(name: str, *, progress: Progress | None = None) -> nn.Module:
    """An image network of the zoo with its trained weights, in evaluation mode, fetched if need be.

    Its preprocessing is ``entry(name).preprocess``. Raises as ``fetch`` does, and ``UnknownName`` for a
    text network.
    """
    if entry(name).modality != "image":
        raise UnknownName("image network", name, VISION, "It reads text; see hf_folder.")
    weights = fetch(name, progress) / WEIGHTS
    module = VISION[name]()
    try:
        module.load_state_dict(read_tensors(weights), strict=True)
    except RuntimeError as error:
        raise BadFile(f"{weights} does not fit {entry(name).architecture}; delete it and load again.") from error
    return module.eval()


def hf_folder(name: str, *, progress: Progress | None = None) -> Path:
    """The local Hugging Face folder (configuration, safetensors, tokenizer) of a text network, fetched
    if need be.
    """
    if entry(name).modality != "text":
        texts = [each.name for each in ZOO.values() if each.modality == "text"]
        raise UnknownName("text network", name, texts, "It sees pictures; see build_vision.")
    return fetch(name, progress)
