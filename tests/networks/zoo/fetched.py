"""Networks of the zoo for tests, and a clean skip where the package index cannot be reached."""

import functools
from pathlib import Path

import pytest
from torch import nn

from cutaway.errors import Unavailable
from cutaway.networks import zoo

IMAGES = Path(__file__).parents[3].parent / "shared" / "data" / "images"


@functools.cache
def vision(name: str) -> nn.Module:
    try:
        return zoo.build_vision(name)
    except Unavailable as error:
        pytest.skip(str(error))


@functools.cache
def folder(name: str) -> Path:
    try:
        return zoo.hf_folder(name)
    except Unavailable as error:
        pytest.skip(str(error))
