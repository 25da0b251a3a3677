"""Networks whose circuit is known: every true edge above every false one, and a circuit without a false edge."""

from pathlib import Path

import pytest

import cutaway
from cutaway.circuits.discovery import Options, Topology, rank
from cutaway.circuits.faithfulness import smallest, without_idle
from cutaway.networks.compiled import Truth, read_truth
from cutaway.networks.network import Network
from tests.circuits.known import asked, auroc, given, named, program

PROGRAMS = ("histogram", "double_histogram", "sort", "fraction_of_previous", "induction")


def check(network: Network, truth: Truth) -> None:
    """Exact patching 1.00, the default at least 0.99, no false edge at k90, all that resampling shows within."""
    own = asked(network, 12)
    assert auroc(rank(own, "exact"), truth) == 1.0
    default = rank(own)
    assert auroc(default, truth) >= 0.99
    estimate = rank(own, "eap-ig", Options(steps=5))
    assert default.cost.total <= 10 * estimate.cost.total
    topology = Topology.of(own.wired)
    found = without_idle(own, topology, smallest(own, topology, default.order()))
    assert found.faithfulness >= 0.9
    names = named(default, found.mask)
    assert names
    assert names <= truth.true_pairs()
    assert (topology.connected(found.mask) == found.mask).all()


@pytest.mark.parametrize("name", PROGRAMS)
def test_own_programs(name: str) -> None:
    check(*program(name))


@pytest.mark.parametrize("name", ["frac_prevs", "hist", "reverse"])
def test_given_programs(name: str, data_dir: Path) -> None:
    folder = next((each for each in given(data_dir) if each.name == name), None)
    if folder is None:
        pytest.skip("the networks compiled by an outside tool are absent")
    check(cutaway.load(str(folder)), read_truth(folder))


def test_gradients_fail_where_patching_does_not() -> None:
    """Behind hard attention EAP-IG ranks true edges at nothing; the default follows them by patching."""
    network, truth = program("double_histogram")
    own = asked(network, 12)
    assert auroc(rank(own, "eap-ig"), truth) < 0.95
    assert auroc(rank(own), truth) == 1.0


def test_acdc_keeps_no_false_edge() -> None:
    network, truth = program("sort")
    found = rank(asked(network, 12), "acdc")
    assert found.chosen is not None
    names = named(found, found.chosen.numpy())
    assert truth.true_pairs("resample") == names


def test_a_wrong_truth_would_be_seen() -> None:
    network, truth = program("histogram")
    ranking = rank(asked(network), "exact")
    swapped = Truth(truth.name, truth.edges[:-1], (*truth.false_edges, truth.edges[-1].pair))
    shown = {edge.pair for edge in truth.edges if "resample" in edge.shows_under}
    assert truth.edges[-1].pair in shown
    assert auroc(ranking, swapped) < 1.0
