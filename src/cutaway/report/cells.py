"""One cell of a table, the same for every format: what kind of value it is and how it reads."""

import math
import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from cutaway.audits.findings import Table
from cutaway.evidence.measurement import Measurement
from cutaway.report import numbers as say

Kind = Literal["text", "number", "share", "measurement", "nothing"]
_PROBABILITIES = {"p", "q"}


@dataclass(frozen=True)
class Cell:
    """A value as text; ``aside`` holds a measurement's null, p and n; ``portion`` a share in [0, 1] for a bar."""

    kind: Kind
    text: str
    aside: str = ""
    portion: float | None = None


def cell(value: object, column: str = "") -> Cell:
    """How ``value`` reads under ``column``; a number in [0, 1] under a "share" is a percentage."""
    if value is None:
        return Cell("nothing", say.UNMEASURED)
    if isinstance(value, bool):
        return Cell("text", "yes" if value else "no")
    if isinstance(value, Measurement):
        return Cell("measurement", say.estimate(value), say.context(value))
    if isinstance(value, numbers.Real):
        return _real(value, column)
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return Cell("text", ", ".join(cell(part).text for part in value))
    return Cell("text", str(value))


def rows(table: Table) -> list[list[Cell]]:
    """The cells of a table, row by row; a row that is too short is filled up, so that columns stay aligned."""
    width = len(table.columns)
    return [[cell(value, column) for value, column in zip(_filled(row, width), table.columns)] for row in table.rows]


def right_aligned(table: Table) -> list[bool]:
    """For each column, whether it holds numbers only."""
    cells = rows(table)
    numeric = {"number", "share", "measurement", "nothing"}
    return [
        bool(cells) and all(row[i].kind in numeric for row in cells) and any(row[i].kind != "nothing" for row in cells)
        for i in range(len(table.columns))
    ]


def _real(value: numbers.Real, column: str) -> Cell:
    if "share" in column.lower() and 0 <= float(value) <= 1:
        return Cell("share", say.share(float(value)), portion=float(value))
    if isinstance(value, numbers.Integral):
        return Cell("number", say.count(int(value)))
    if column.lower() in _PROBABILITIES and 0 <= float(value) <= 1:
        return Cell("number", say.probability(float(value)))
    return Cell("nothing" if math.isnan(value) else "number", say.number(float(value)))


def _filled(row: tuple[object, ...], width: int) -> list[object]:
    return [*row, *[None] * (width - len(row))][:width]
