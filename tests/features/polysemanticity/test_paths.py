"""Paths upstream: contributions of a linear network by hand, participation, and two planted paths."""

import numpy as np
import pytest
import torch

from cutaway.errors import BadInput, NotTestable
from cutaway.features.collect import collect
from cutaway.features.polysemanticity import choose, contributions, measured_participation, participation_ratio, paths
from tests.features.planted import pictures, templates
from tests.features.polysemanticity.planted import world


def test_participation_ratio_by_hand():
    assert participation_ratio(np.array([[1.0, 2], [2, 4], [3, 6]])) == pytest.approx(1)
    assert participation_ratio(np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])) == pytest.approx(3)
    # second moments 4 and 1: 25 / 17
    assert participation_ratio(np.array([[2.0, 0], [0, 1]])) == pytest.approx(25 / 17)


def test_sources_that_work_together_participate_less_than_by_chance():
    rng = np.random.default_rng(0)
    together = rng.random((40, 1)) * np.array([[1.0, 1, 1, 1]]) * rng.choice([1.0, 0.0], (40, 1)) + 0.01
    apart = np.eye(4)[rng.integers(0, 4, 40)]
    assert measured_participation(together).p < 0.05 and measured_participation(together).value < 1.1
    found = measured_participation(apart)
    assert 3 < found.low <= found.value <= 4


@pytest.mark.parametrize(("kind", "count"), [("one", 1), ("two", 2), ("three", 3)])
def test_planted_paths_are_found_and_named(kind, count):
    made = world(0)
    activity = collect(made.network, made.network.site("act"), range(35), made.stimuli, batch_size=512)
    unit = made.kinds.index(kind)
    found = paths(made.network, activity, unit, "detect")
    wired = set(torch.nonzero(made.network.module.mix.weight[unit]).flatten().tolist())
    assert {found.strongest(mode, 1)[0][0] for mode in range(found.count)} == wired and found.count == count
    assert found.participation.value == pytest.approx(count, abs=0.6)
    weight = made.network.module.mix.weight[unit].detach().numpy()
    chosen = choose(activity, unit)
    run = made.network.run([activity.stimuli[int(row)] for row in chosen.rows], capture=["detect"])
    assert contributions(made.network, activity, unit, "detect", chosen) == pytest.approx(
        weight * run["detect"].detach().numpy(), abs=1e-5
    )
    assert found.to_json()["paths"][0]["sources"][0][0] in wired


def test_maps_are_followed_to_the_place_of_the_example():
    network = templates()
    activity = collect(network, network.site("act"), [1], pictures(12))
    chosen = choose(activity, 1, 24)
    found = contributions(network, activity, 1, "rect", chosen)
    assert found.sum(axis=1) == pytest.approx(chosen.values, abs=1e-5)  # linear above zero, no bias
    assert paths(network, activity, 1, "rect", count=24).count == 2


def test_a_source_must_lie_upstream():
    network = templates()
    activity = collect(network, network.site("rect"), [0], pictures(20))
    with pytest.raises(BadInput, match="upstream"):
        paths(network, activity, 0, "act")
    with pytest.raises(NotTestable, match="show it more"):
        paths(network, activity.restricted({activity.stimuli[0].id}), 0, "detect")
