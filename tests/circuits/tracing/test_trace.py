"""The whole way: budgets, reasons for attention, the same numbers from the same seed, and every file format."""

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import torch

from cutaway.circuits.tracing import Budget, Trace, save, trace
from cutaway.circuits.tracing.page import number
from cutaway.errors import BadInput
from tests.circuits.tracing.worlds import IDS, plain_network, random_network, world


@pytest.fixture(scope="module")
def found() -> Trace:
    return trace(random_network("gpt2"), IDS, 4, 20, budget=Budget(pool=12, floor=0.0))


def test_budgets_hold_and_the_strongest_edges_stay() -> None:
    network = random_network("gpt2")
    few = trace(network, IDS, 4, 20, budget=Budget(nodes=5, edges=9, pool=12, floor=0.0), test=False)
    parts = [node for node in few.nodes if node.kind not in ("embed", "bias", "output")]
    assert len(few.edges) <= 9 and 1 <= len(parts) <= 5
    values = world(network, IDS, size=12).links.values
    largest = sorted(np.abs(values[-1]), reverse=True)[0]
    assert abs(few.into("output")[0].value) == pytest.approx(largest, rel=0.5)
    influential = trace(network, IDS, 4, 20, budget=Budget(rule="influence", nodes=5, edges=9, pool=12), test=False)
    assert len(influential.edges) <= 9


def test_kept_edges_are_those_of_the_whole_graph(found: Trace) -> None:
    assert found.gap < 1e-4 and found.direct_share > 0.3
    names = {node.name for node in found.nodes}
    assert all({edge.source, edge.target} <= names for edge in found.edges)
    assert len({(edge.source, edge.target) for edge in found.edges}) == len(found.edges)
    assert found.node("output").value == found.metric
    assert 0 < found.scores.replacement < 1 and 0 < found.scores.completeness < 1


def test_the_same_seed_gives_the_same_numbers(found: Trace) -> None:
    again = trace(random_network("gpt2"), IDS, 4, 20, budget=Budget(pool=12, floor=0.0))
    assert json.dumps(again.to_json()) == json.dumps(found.to_json())
    other = trace(random_network("gpt2"), IDS, 4, 20, budget=Budget(pool=12, floor=0.0), seed=1)
    assert [edge.value for edge in other.edges] != [edge.value for edge in found.edges]  # other texts


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "qwen3"])
def test_reasons_add_up_to_the_advantage_of_a_key(name: str) -> None:
    """Against scores from the network's own queries and keys, which know nothing of sources."""
    network = random_network(name)
    moves = trace(network, IDS, 4, 20, budget=Budget(pool=40, floor=0.0), test=False).moves
    assert moves
    for move in moves[:4]:
        sites = [f"layers.{move.layer}.attn.{part}" for part in ("q", "k", "pattern")]
        run = network.run(network.prepare(IDS), capture=sites)
        q, k, pattern = (run[site][0].double() for site in sites)
        k = k.repeat_interleave(len(q) // len(k), 0)
        scores = (k[move.index] @ q[move.index, move.query] * q.shape[-1] ** -0.5)[: move.query + 1]
        others = [key for key in range(move.query + 1) if key != move.key]
        assert move.score == pytest.approx(float(scores[move.key]), abs=1e-4)
        assert move.advantage == pytest.approx(float(scores[move.key] - scores[others].mean()), abs=1e-4)
        assert move.attention == pytest.approx(float(pattern[move.index, move.query, move.key]), abs=1e-6)
        assert [abs(pair.value) for pair in move.pairs] == sorted((abs(p.value) for p in move.pairs), reverse=True)
        assert move.query > 0 and move.key <= move.query


def test_every_format(found: Trace, tmp_path: Path) -> None:
    paths = {suffix: save(found, tmp_path / "made" / f"t.{suffix}") for suffix in ("json", "svg", "dot", "html")}
    texts = {suffix: path.read_text(encoding="utf-8") for suffix, path in paths.items()}
    assert len(json.loads(texts["json"])["edges"]) == len(found.edges)
    picture = ElementTree.fromstring(texts["svg"])
    space = "{http://www.w3.org/2000/svg}"
    drawn = [path for path in picture.iter(f"{space}path") if path.get("class") == "edge"]
    assert len(drawn) == len(found.edges)
    assert sum(group.get("class") == "node" for group in picture.iter(f"{space}g")) == len(found.nodes)
    for name in (node.name for node in found.nodes):
        assert f'"{name}"' in texts["dot"] and name in texts["html"]
    assert texts["dot"].count(" -> ") == len(found.edges) and texts["dot"].count("{") == texts["dot"].count("}")
    assert "<script" not in texts["html"] and not re.search(r"(src|href)=", texts["html"])
    assert save(found, tmp_path / "again.svg").read_text(encoding="utf-8") == texts["svg"]
    with pytest.raises(BadInput, match="end the name in"):
        save(found, tmp_path / "t.pdf")


def test_boxes_do_not_overlap_and_lie_inside(found: Trace) -> None:
    from cutaway.circuits.tracing.layout import BOX, lay_out

    plan = lay_out(found)
    places = list(plan.places.values())
    assert len(places) == len(found.nodes)
    for number_, one in enumerate(places):
        assert BOX / 2 <= one.x <= plan.width - BOX / 2 and 20 < one.y < plan.height - 40
        assert all(abs(one.x - two.x) >= BOX or abs(one.y - two.y) > 30 for two in places[:number_])
    by_stage = sorted(places, key=lambda place: place.node.stage)
    assert by_stage[0].y > by_stage[-1].y  # bottom up


def test_tokens_are_escaped(tmp_path: Path) -> None:
    import dataclasses

    network = plain_network(layers=1)
    plain = trace(network, torch.tensor([[4, 0, 2]]), 1, 3, test=False)
    nasty = dataclasses.replace(plain, prompt='<b>"&', tokens=('<script>"', "a&b", "c"), target='<i>"')
    for suffix in ("svg", "html", "dot"):
        text = save(nasty, tmp_path / f"t.{suffix}").read_text(encoding="utf-8")
        if suffix == "dot":
            assert '\\"' in text
        else:
            assert "<script>" not in text and "<b>" not in text and "<i>" not in text
    ElementTree.fromstring((tmp_path / "t.svg").read_text(encoding="utf-8"))


def test_numbers_for_readers() -> None:
    assert (number(-1.2345), number(2.0), number(float("nan")), number(None)) == ("−1.23", "+2", "–", "–")
