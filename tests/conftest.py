"""What every test may use: the zoo, the shared data, an atlas; one thread and fixed seeds for all."""

import functools
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cutaway.atlas import Atlas
from cutaway.errors import Unavailable
from cutaway.networks import Network, load

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    torch.set_num_threads(1)  # one thread per worker: the workers share the cores, and sums keep their order


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Notebooks first: they are the longest tests, and no worker should begin one when the other has nothing left."""
    items.sort(key=lambda item: "test_notebook_runs" not in item.name)


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def zoo() -> Callable[[str], Network]:
    """``zoo("vgg16-hed")``: an embedded network, loaded once; skips where it cannot be fetched."""

    @functools.cache
    def loaded(name: str) -> Network | Unavailable:
        try:
            return load(name)
        except Unavailable as error:
            return error

    def get(name: str) -> Network:
        network = loaded(name)
        if isinstance(network, Unavailable):
            pytest.skip(f"{name} cannot be fetched here: {network}")
        return network

    return get


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of shared data (``CUTAWAY_DATA``, or ``shared/data`` beside the repository); skips without it."""
    folder = Path(os.environ.get("CUTAWAY_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("shared data is absent; name its folder in CUTAWAY_DATA")
    return folder


@pytest.fixture
def tmp_atlas(tmp_path: Path) -> Iterator[Atlas]:
    """An empty atlas that vanishes with the test."""
    with Atlas(tmp_path / "atlas") as atlas:
        yield atlas
