"""Images from folders, and photographs from installed packages; pixels are read only when asked for.

Files are opened by content, never by name, and only as one of :data:`FORMATS`: Pillow knows formats (EPS,
WMF) that hand the file to other programs, and nothing from outside is executed here.
"""

import importlib.util
import os
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cutaway.errors import BadFile, BadInput
from cutaway.stimuli.core import Skipped, Stimulus, StimulusSet, content_id, file_id

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
MAX_PIXELS = 1 << 26
"""Larger images are refused before decoding: 67 megapixels are 200 MB as RGB."""

# Natural photographs only: scikit-image also ships drawings, scanned text and micrographs. motorcycle_right
# is left out because it is the stereo twin of motorcycle_left.
PHOTOGRAPHS = {
    "skimage": (
        "astronaut.png", "brick.png", "camera.png", "chelsea.png", "clock_motion.png", "coffee.png",
        "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "moon.png", "motorcycle_left.png",
        "retina.jpg", "rocket.jpg",
    ),
    "sklearn": ("china.jpg", "flower.jpg"),
}  # fmt: skip
_FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}

Box = tuple[int, int, int, int]  # left, upper, right, lower, in pixels


def image_folder(path: str | Path) -> StimulusSet:
    """All images below a folder (or the one image that ``path`` names), in the order of their paths.

    Images are RGB, upright (EXIF), composed on white where transparent, the first frame where animated. A
    file that is no image, or a damaged one, is skipped with its reason; no usable image at all raises
    :class:`~cutaway.errors.BadInput`.
    """
    root = Path(path)
    if not root.exists():
        raise BadInput(f"There is no folder or file {str(root)!r}; give a folder that holds images.")
    files = [root] if root.is_file() else list(_files_below(root))
    base = root.parent if root.is_file() else root
    candidates = [file for file in files if root.is_file() or file.suffix.lower() in SUFFIXES]
    stimuli: list[Stimulus] = []
    skipped: list[Skipped] = []
    for file in candidates:
        source = file.relative_to(base).as_posix()
        try:
            _check_image(file)
            stimuli.append(Stimulus(file_id(file), "image", source, partial(read_image, file)))
        except (BadFile, OSError) as error:
            skipped.append(Skipped(source, _one_line(error)))
    if not stimuli:
        raise BadInput(_nothing_usable(root, len(files), skipped))
    return StimulusSet(root.name or str(root), stimuli, skipped=skipped)


def builtin_photographs(*, crops: int = 9, size: int = 256, seed: int = 0) -> StimulusSet:
    """The photographs that scikit-image and scikit-learn ship: each whole, and in ``crops`` square crops.

    A crop covers between half and all of the shorter side and is resized to ``size`` by ``size`` pixels
    (bicubic); places and scales follow from ``seed``. With the defaults 16 photographs give 160 stimuli. The
    photograph is the ``group`` of its crops: they are not independent of each other.
    """
    stimuli: list[Stimulus] = []
    skipped: list[Skipped] = []
    for package, names in PHOTOGRAPHS.items():
        folder = _package_folder(package)
        for name in names:
            file = None if folder is None else folder / name
            if file is None or not file.is_file():
                skipped.append(Skipped(f"{package}/{name}", _absent(package, folder)))
                continue
            rng = np.random.default_rng([seed, int(content_id(name)[:8], 16)])
            stimuli += _views(file, f"{package}/{name}", crops, size, rng)
    if not stimuli:
        raise BadInput("No built-in photograph was found; pip install 'cutaway[images]', or give an image folder.")
    return StimulusSet("builtin-photographs", stimuli, skipped=skipped)


def read_image(path: str | Path, box: Box | None = None, size: int | None = None) -> Image.Image:
    """One image as RGB, optionally cropped to ``box`` and resized to a square of ``size`` pixels."""
    with warnings.catch_warnings():
        # Pillow warns about odd metadata and large images; size has its own limit here.
        warnings.simplefilter("ignore")
        try:
            with _open(Path(path)) as opened:
                image = _to_rgb(ImageOps.exif_transpose(opened))
        except BadFile:
            raise
        except (
            Exception
        ) as error:  # Decoders raise errors of any kind on damaged bytes (SyntaxError, struct.error ...).
            raise BadFile(f"{Path(path).name} cannot be decoded ({_one_line(error)}).") from error
    if box is not None:
        image = image.crop(box)
    return image if size is None else image.resize((size, size), Image.Resampling.BICUBIC)


def _files_below(root: Path) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(root):
        subfolders.sort()
        # is_file leaves out pipes and sockets, on which reading would wait for ever.
        yield from (Path(folder, name) for name in sorted(names) if Path(folder, name).is_file())


def _open(path: Path) -> Image.Image:
    image = Image.open(path, formats=FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise BadFile(f"{path.name} has {width} x {height} pixels, more than the limit of {MAX_PIXELS}.")
    return image


def _check_image(path: Path) -> None:
    """The cheap check: header, size, and checksums where the format has them; pixels are not decoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with _open(path) as image:
                image.verify()
        except (BadFile, FileNotFoundError, PermissionError):
            raise
        except Exception as error:  # As in read_image: any kind of error may come out of a decoder.
            raise BadFile(f"{path.name} is not a readable image ({_one_line(error)}).") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise BadFile("its pixels are floating-point numbers, whose range is not known; convert it to 8 bits.")
    if image.mode.startswith("I"):
        return _deep_grey(image).convert("RGB")
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _deep_grey(image: Image.Image) -> Image.Image:
    """16-bit grey to 8 bits by its full range; Pillow's own conversion would clip above 255 to white."""
    values = np.asarray(image).astype(np.float64)
    return Image.fromarray(np.clip(np.rint(values / 257), 0, 255).astype(np.uint8))


def _views(file: Path, source: str, crops: int, size: int, rng: np.random.Generator) -> list[Stimulus]:
    """The whole photograph and its crops."""
    identity = file_id(file)
    with _open(file) as image:
        width, height = image.size
    views = [Stimulus(identity, "image", source, partial(read_image, file), group=source)]
    for _ in range(crops):
        box = _random_box(width, height, rng)
        where = f"{source} [{box[0]}:{box[2]}, {box[1]}:{box[3]}]"
        crop_id = content_id(f"{identity} crop {box} to {size}")
        views.append(Stimulus(crop_id, "image", where, partial(read_image, file, box, size), group=source))
    return views


def _random_box(width: int, height: int, rng: np.random.Generator) -> Box:
    side = int(min(width, height) * rng.uniform(0.5, 1.0))
    left, upper = (int(rng.integers(0, extent - side + 1)) for extent in (width, height))
    return left, upper, left + side, upper + side


def _package_folder(package: str) -> Path | None:
    """A package's folder of images; the package is located, not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)), _FOLDERS[package])


def _absent(package: str, folder: Path | None) -> str:
    if folder is None and package == "skimage":
        return "scikit-image is not installed: pip install 'cutaway[images]'"
    return f"the installed {package} does not ship this file"


def _nothing_usable(root: Path, files: int, skipped: list[Skipped]) -> str:
    if skipped:
        return f"None of the {len(skipped)} images in {str(root)!r} can be read; the first: {skipped[0].reason}"
    found = f"{files} other files" if files else "no file"
    return f"{str(root)!r} holds no image but {found}; give a folder with {', '.join(SUFFIXES)} files."


def _one_line(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # Pillow's own message repeats the whole path.
        return "its bytes are no image of a known format"
    return " ".join(str(error).split())[:200] or type(error).__name__
