"""What a set of drawings is: a table of parameters and a painter for its rows."""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from cutaway.errors import BadInput
from cutaway.stimuli.core import Stimulus, StimulusSet, content_id

GREY = 0.5
SMALLEST, LARGEST = 8, 2048  # pixels

#: Parameters of some rows, each of shape [row 1 1].
Rows = Mapping[str, np.ndarray]
#: Values of a parameter.
Numbers = Sequence[float | int] | np.ndarray


@dataclass(frozen=True)
class Canvas:
    """A square of ``size`` pixels whose origin lies at ``centre`` (row and column; the middle unless told)."""

    size: int
    centre: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not SMALLEST <= self.size <= LARGEST:
            raise BadInput(f"Drawings of {self.size} pixels were asked for; ask for {SMALLEST} to {LARGEST}.")

    def axes(self) -> tuple[Float[np.ndarray, "1 1 x"], Float[np.ndarray, "1 y 1"]]:
        """Pixel coordinates, x to the right and y upwards, from the origin."""
        middle = (self.size - 1) / 2
        row, column = self.centre or (middle, middle)
        steps = np.arange(self.size, dtype=np.float32)
        return (steps - np.float32(column))[None, None, :], (np.float32(row) - steps)[None, :, None]


#: Paints rows on a canvas: [row y x] for grey pictures, [row 3 y x] for coloured ones.
Painter = Callable[[Canvas, Rows], np.ndarray]


@dataclass(frozen=True, eq=False)
class Drawings:
    """A table of drawings: ``columns`` holds each parameter's value for every drawing.

    ``angle`` names the column that turns and ``period`` after how many degrees it repeats (360 or 180); both are
    empty for drawings that do not turn.
    """

    kind: str
    canvas: Canvas
    columns: Mapping[str, np.ndarray]
    painter: Painter
    angle: str = ""
    period: float = 360.0

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def paint(self, rows: Any = slice(None)) -> Float[np.ndarray, "row 3 y x"]:
        """The drawings of these rows (a slice, indices or a mask) as RGB in 0..1."""
        chosen = {name: np.asarray(column[rows])[:, None, None] for name, column in self.columns.items()}
        pixels = self.painter(self.canvas, chosen).astype(np.float32, copy=False)
        if pixels.ndim == 3:
            pixels = np.broadcast_to(pixels[:, None], (len(pixels), 3, *pixels.shape[1:]))
        return np.clip(pixels, 0, 1)

    def batches(self, size: int) -> Iterator[tuple[slice, Float[np.ndarray, "row 3 y x"]]]:
        """The drawings in parts of at most ``size``, painted one part at a time, with the rows they are."""
        for start in range(0, len(self), size):
            rows = slice(start, min(start + size, len(self)))
            yield rows, self.paint(rows)

    def on(self, canvas: Canvas) -> "Drawings":
        """The same drawings on another canvas."""
        return replace(self, canvas=canvas)

    def where(self, mask: np.ndarray) -> "Drawings":
        """Some of the drawings."""
        return replace(self, columns={name: column[mask] for name, column in self.columns.items()})

    @property
    def fingerprint(self) -> str:
        """sha256 over the kind, the canvas and the table (64 hex digits)."""
        digest = hashlib.sha256(f"{self.kind}|{self.canvas}".encode())
        for name, column in sorted(self.columns.items()):
            digest.update(name.encode() + np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    def described(self, row: int) -> str:
        """One drawing in words: ``curves orientation_deg=30 radius_px=8``."""
        told = " ".join(f"{name}={column[row]:g}" for name, column in self.columns.items())
        return f"{self.kind} {told}"

    def stimuli(self) -> StimulusSet:
        """The drawings as a stimulus set, so that a network can be observed on them."""
        base = self.fingerprint
        made = [
            Stimulus(content_id(f"{base}|{row}"), "image", self.described(row), lambda row=row: self.picture(row))
            for row in range(len(self))
        ]
        return StimulusSet(self.kind, made)

    def picture(self, row: int) -> Image.Image:
        """One drawing as an 8-bit RGB picture."""
        pixels = self.paint(np.array([row]))[0].transpose(1, 2, 0)
        return Image.fromarray(np.round(pixels * 255).astype(np.uint8))


def table(**values: Numbers) -> dict[str, Float[np.ndarray, " drawing"]]:
    """All combinations of the values, one column for each parameter; the last one varies fastest."""
    empty = [name for name, given in values.items() if not len(given)]
    if empty:
        raise BadInput(f"Drawings without any value of {empty[0]} were asked for; give at least one.")
    rows = np.array(list(itertools.product(*values.values())), dtype=np.float32)
    return {name: rows[:, index] for index, name in enumerate(values)}


def stacked(*tables: Mapping[str, np.ndarray]) -> dict[str, Float[np.ndarray, " drawing"]]:
    """Tables with the same columns, one after the other."""
    return {name: np.concatenate([part[name] for part in tables]) for name in tables[0]}


def degrees(steps: int, period: float | int = 360) -> Float[np.ndarray, " step"]:
    """Equally spaced angles from 0 up to the period."""
    if steps < 1:
        raise BadInput(f"{steps} angles were asked for; ask for at least one.")
    return np.arange(steps, dtype=np.float32) * np.float32(period / steps)


def coverage(distance: np.ndarray) -> np.ndarray:
    """How much of a pixel a shape covers, from the signed distance of its centre (pixels, negative inside)."""
    return np.clip(0.5 - distance, 0, 1)


def along(canvas: Canvas, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates along a direction and across it (to its left), [row y x]."""
    x, y = canvas.axes()
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    return (x * c + y * s), (y * c - x * s)


def inked(shape: np.ndarray, polarity: np.ndarray) -> np.ndarray:
    """Light (+1) or dark (-1) ink on grey, where the shape covers."""
    return GREY + GREY * polarity * shape


#: Directions in RGB at equal sum of channels: red against green, blue against yellow.
OPPONENT = np.array([[1, -1, 0], [-0.5, -0.5, 1]], dtype=np.float32)


def tinted(amount: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    """Grey plus a signed amount along grey (chroma 0), red-green (1) or blue-yellow (2): [row 3 y x]."""
    axes = np.concatenate([np.ones((1, 3), np.float32), OPPONENT])
    direction = axes[chroma.astype(int).reshape(-1)][:, :, None, None]
    return GREY + amount[:, None] * direction
