"""The one ratio behind most metrics here: how far something got from a floor towards a ceiling."""

import math

from cutaway.errors import BadInput, NotTestable

Number = float | int
ROUNDING = 1e-9  # a distance below this share of the numbers that it separates is rounding, not a distance


def share_of_way(value: Number, floor: Number, ceiling: Number, *, what: str, because: str) -> float:
    """(value - floor) / (ceiling - floor): 0 at the floor, 1 at the ceiling, unbounded outside.

    :class:`NotTestable` where floor and ceiling coincide up to rounding: ``what`` names the metric,
    ``because`` says what that means.
    """
    for number in (value, floor, ceiling):
        if not math.isfinite(number):
            raise BadInput(f"{what} was asked of {value}, {floor} and {ceiling}; give three finite numbers.")
    way = float(ceiling) - float(floor)
    if abs(way) <= ROUNDING * max(abs(floor), abs(ceiling)):
        raise NotTestable(f"{what} is undefined: both ends of its scale are {floor:.6g}, so {because}.")
    return (float(value) - float(floor)) / way
