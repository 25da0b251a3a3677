"""From a picture to the tensor that an image network was trained on, with Pillow and torch alone.

Resizing follows the usual recipe of ImageNet classifiers: the shorter side to ``resize`` pixels, then the
middle ``size`` by ``size``; networks that saw squeezed squares set ``keep_aspect=False``.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from cutaway.errors import BadFile, BadInput

MOST_PIXELS = 100_000_000
"""A larger picture is refused before its pixels are unpacked."""

MOST_ELONGATION = 8
"""Longer pictures lose their ends before they are resized: they would be cropped away, at a large cost."""

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}


@dataclass(frozen=True)
class ImagePreprocess:
    """Resize, crop and normalize one picture: ``preprocess(picture)`` is the network's input ``[3, y, x]``.

    ``mean`` and ``scale`` are in units of 0..255, in the network's channel order: the input is
    ``(pixel - mean) / scale``. ``size=None`` keeps the picture's own size, rounded down to a multiple of
    ``multiple``.
    """

    size: int | None = 224
    resize: int | None = None
    """Shorter side after resizing, before the crop; ``None`` means ``size`` (nothing is cropped but the
    ends).
    """
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (255.0, 255.0, 255.0)
    channels: Literal["RGB", "BGR"] = "RGB"
    interpolation: str = "bicubic"
    keep_aspect: bool = True
    multiple: int = 1

    def __call__(self, picture: Image.Image) -> Float[Tensor, "3 y x"]:
        """The network's input for a picture of any mode; raises ``BadInput`` if it is too large or broken."""
        pixels = np.asarray(self.fit(to_rgb(picture)), dtype=np.float32)
        tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
        return (self._ordered(tensor) - _column(self.mean)) / _column(self.scale)

    def encode(self, rgb: Float[Tensor, "batch 3 y x"]) -> Float[Tensor, "batch 3 y x"]:
        """The network's input for pictures given as RGB in 0..1; differentiable, nothing is resized or clipped."""
        mean, scale = (_column(values).to(rgb) for values in (self.mean, self.scale))
        return ((rgb if self.channels == "RGB" else rgb.flip(-3)) * 255 - mean) / scale

    def inverse(self, tensor: Float[Tensor, "3 y x"]) -> Float[Tensor, "3 y x"]:
        """The picture that an input shows: RGB, 0..1, clipped; for display."""
        pixels = tensor.detach().float().cpu() * _column(self.scale) + _column(self.mean)
        return (self._ordered(pixels) / 255).clamp(0, 1)

    def fit(self, picture: Image.Image) -> Image.Image:
        """The part of an RGB picture that the network sees, at the size at which it sees it."""
        if self.size is None:
            sides = [max(side // self.multiple, 1) * self.multiple for side in picture.size]
            return picture.resize((sides[0], sides[1]), _FILTERS[self.interpolation])
        if not self.keep_aspect:
            side = self.resize or self.size
            squeezed = picture.resize((side, side), _FILTERS[self.interpolation])
            return _middle(squeezed, self.size, self.size)
        picture = _without_far_ends(picture)
        shorter = self.resize or self.size
        grow = shorter / min(picture.size)
        width, height = (max(int(side * grow + 1e-6), shorter) for side in picture.size)
        return _middle(picture.resize((width, height), _FILTERS[self.interpolation]), self.size, self.size)

    def with_size(self, size: int | None) -> "ImagePreprocess":
        """The same recipe at another input size, with the same crop share."""
        if size is None or self.size is None or self.resize is None:
            return replace(self, size=size, resize=None)
        return replace(self, size=size, resize=round(size * self.resize / self.size))

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values; ``ImagePreprocess.from_json`` is the way back."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "ImagePreprocess":
        """The preprocess that ``to_json`` described."""
        return cls(**{**fields, "mean": tuple(fields["mean"]), "scale": tuple(fields["scale"])})

    def _ordered(self, tensor: Tensor) -> Tensor:
        return tensor if self.channels == "RGB" else tensor.flip(0)


def to_rgb(picture: Image.Image) -> Image.Image:
    """Any picture as 8-bit RGB, turned upright by its EXIF tag, transparency laid on white.

    Sixteen-bit grey becomes eight-bit by its high byte. Raises ``BadInput`` for a picture that is larger than
    ``MOST_PIXELS``, empty, damaged, or of floating-point pixels, whose range nothing says.
    """
    width, height = picture.size
    if not 0 < width * height <= MOST_PIXELS:
        raise BadInput(f"The picture is {width} x {height} pixels; give one of 1 to {MOST_PIXELS:,} pixels.")
    if picture.mode == "F":
        raise BadInput("The picture holds floating-point pixels of unknown range; save it as 8-bit PNG first.")
    try:
        return _flattened(ImageOps.exif_transpose(picture))
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise BadInput(f"The picture cannot be decoded ({error}); replace or remove it.") from error


def from_hf_folder(folder: str | Path) -> ImagePreprocess:
    """The preprocess that a Hugging Face image classifier's ``preprocessor_config.json`` describes.

    Understands the ViT, ConvNeXt and ResNet families of image processors (``size`` as a number,
    ``shortest_edge`` or a square ``height``/``width``; ``crop_size``; ``crop_pct``). Raises ``BadFile`` for
    what it does not.
    """
    path = Path(folder) / "preprocessor_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it is not a JSON object")
        return _from_config(config)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadFile(f"{path} cannot be used ({error}); pass preprocess=ImagePreprocess(...) yourself.") from error


def _from_config(config: dict[str, Any]) -> ImagePreprocess:
    sides = config.get("size", 224)
    sides = sides if isinstance(sides, dict) else {"shortest_edge": sides}
    squeeze = "height" in sides
    size, resize = _sizes(config, _one_side(sides))
    keep_aspect = not squeeze
    if "crop_pct" in config and not config.get("do_center_crop") and size >= 384:
        resize, keep_aspect = size, False  # the ConvNeXt processor squeezes large inputs instead of cropping
    factor = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
    normalize = config.get("do_normalize", True)
    mean = config["image_mean"] if normalize else (0.0, 0.0, 0.0)
    std = config["image_std"] if normalize else (1.0, 1.0, 1.0)
    return ImagePreprocess(
        size=size,
        resize=resize,
        mean=_triple(each / factor for each in mean),
        scale=_triple(each / factor for each in std),
        interpolation=Image.Resampling(config.get("resample", 3)).name.lower(),
        keep_aspect=keep_aspect,
    )


def _sizes(config: dict[str, Any], side: int) -> tuple[int, int]:
    """Input size and the shorter side before the crop."""
    if config.get("do_center_crop"):
        crop = config.get("crop_size", side)
        return (_one_side(crop) if isinstance(crop, dict) else int(crop)), side
    if config.get("crop_pct") and side < 384:
        return side, int(side / config["crop_pct"])
    return side, side


def _one_side(sides: dict[str, Any]) -> int:
    if "shortest_edge" in sides:
        return int(sides["shortest_edge"])
    if sides["height"] != sides["width"]:
        raise ValueError(f"its input is not square: {sides}")
    return int(sides["height"])


def _triple(values: Any) -> tuple[float, float, float]:
    first, second, third = values
    return float(first), float(second), float(third)


def _flattened(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):
        grey = np.clip(np.asarray(picture).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        over = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    return picture.convert("RGB")


def _without_far_ends(picture: Image.Image) -> Image.Image:
    most = MOST_ELONGATION * min(picture.size)
    return _middle(picture, min(picture.width, most), min(picture.height, most))


def _middle(picture: Image.Image, width: int, height: int) -> Image.Image:
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def _column(values: tuple[float, float, float]) -> Float[Tensor, "3 1 1"]:
    return torch.tensor(values, dtype=torch.float32).reshape(3, 1, 1)
