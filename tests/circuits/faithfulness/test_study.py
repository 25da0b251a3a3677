"""A whole study on a program; stability and the multiverse on a small Llama."""

import numpy as np
import pytest

from cutaway.circuits.discovery import Topology, rank
from cutaway.circuits.drawing import to_bytes
from cutaway.circuits.faithfulness import (
    Plan,
    faithfulness_multiverse,
    overlap,
    resampling_stability,
    study,
    study_picture,
)
from cutaway.errors import BadInput, NotTestable
from tests.circuits.discovery.test_methods import question
from tests.circuits.edges.test_edges import pairs
from tests.circuits.known import asked, named, program


def test_a_study_of_a_program() -> None:
    net, truth = program("histogram")
    found, held = asked(net, 8), asked(net, 8, seed=1)
    done = study(net, found, held, rank(found), Plan(random=19, curves=2, tested=4))
    names = named(done.ranking, done.mask)
    assert names == truth.true_pairs("resample")
    assert done.faithfulness.value == pytest.approx(1, abs=1e-5)
    assert done.faithfulness.p == pytest.approx(1 / 20)
    assert done.percentile == 100
    assert done.faithfulness.null_mean < 0.5
    assert done.signed_curve is None  # the whole output has no direction that helps
    assert done.band.shape == (2, 10)
    assert set(done.ablations) == {"resample", "mean", "zero", "permute"}
    assert done.stability is not None
    assert done.stability.value == 1.0
    assert done.neurons is not None
    picture = to_bytes(study_picture(done, title="histogram"), "png")
    assert picture[:4] == b"\x89PNG"
    assert to_bytes(study_picture(done, title="histogram"), "png") == picture
    with pytest.raises(BadInput, match="at least 19"):
        study(net, found, held, done.ranking, Plan(random=5))


def test_redrawn_pairs_and_overlap() -> None:
    own, topology = question()
    ranking = rank(own, "eap-ig")
    found = resampling_stability(own, topology, ranking, 30, draws=6)
    assert found.null_mean < found.value <= 1
    assert found.low <= found.value <= found.high
    mask = topology.top(ranking.order(), 30)
    same = overlap(topology, mask, mask, n=6)
    assert same.value == 1
    assert same.p == 0.05
    assert overlap(topology, mask, topology.possible & ~mask, n=6).value == 0
    with pytest.raises(NotTestable, match="single pairs"):
        resampling_stability(own, topology, rank(asked(program("copy_first")[0], 4), "acdc"), 4)


def test_the_multiverse_asks_every_question() -> None:
    own, topology = question()
    wired = own.wired
    order = rank(own, "eap").order()
    circuits = {count: topology.top(order, count) for count in (30, 60)}
    heard: list[str] = []
    every = faithfulness_multiverse(
        wired, Topology.of(wired), circuits, {"a": pairs(4)}, nulls=3, on_result=lambda each: heard.append(str(each))
    )
    assert len(every.results) == len(heard) == 3 * 4 * 2
    first = every.results[0]
    assert first.measurement is not None
    assert dict(first.specification) == {
        "metric": "logit difference",
        "ablation": "resample",
        "wording": "a",
        "size": 30,
    }
    by_hand = own.part([0, 1, 2, 3])
    expected = by_hand.faithfulness(by_hand.values([topology.tensor(circuits[30])]))
    assert first.measurement.value == pytest.approx(float(expected[0]), abs=1e-4)
    assert np.isfinite(every.median)
    with pytest.raises(BadInput, match="needs 24"):
        faithfulness_multiverse(wired, topology, circuits, {"a": pairs(4)}, ablations=["mean"])
