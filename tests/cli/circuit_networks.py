"""Language models of fifty words for ``module:FILE.py:FUNCTION``."""

import torch

from cutaway.networks import Network
from tests.circuits.edges.test_tasks import talker


def talks() -> Network:
    """A random Llama with a vocabulary."""
    return talker()


def broken() -> Network:
    """The same with a weight that is not a number."""
    network = talker()
    with torch.no_grad():
        next(iter(network.module.parameters()))[3, 3] = torch.nan
    return network
