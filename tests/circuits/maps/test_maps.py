"""Graphs of maps: conservation whatever the architecture, cases by hand, cuts that are exact where nothing bends."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cutaway
from cutaway.bases import neurons
from cutaway.circuits.maps import map_target, trace_maps
from cutaway.circuits.maps.causal import can_cut, cut_edges, set_to_zero
from cutaway.circuits.maps.codes import openings
from cutaway.circuits.maps.links import Links, link, sweep
from cutaway.circuits.maps.nodes import BIAS, ERROR, ERRORS, INPUT, PARTS, UNIT, UNITS
from cutaway.circuits.maps.opened import Opened, open_up
from cutaway.circuits.tracing import Budget
from cutaway.errors import BadInput, CutawayError, NotTestable
from cutaway.networks import Network
from tests.circuits.tracing.dictionaries import origin, small


class Residual(nn.Module):
    """Convolutions with norms, a rectifier with a ceiling, pooling, a sum past two of them, and a classifier."""

    def __init__(self, bend: nn.Module) -> None:
        super().__init__()
        self.stem, self.norm, self.relu = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), bend
        self.pool = nn.MaxPool2d(2)
        self.mid, self.relu2 = nn.Conv2d(6, 6, 3, padding=1, groups=3), copy.deepcopy(bend)
        self.out = nn.Conv2d(6, 6, 1)
        self.added = nn.Identity()
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.norm(self.stem(x))))
        return self.head(self.added(x + self.out(self.relu2(self.mid(x)))).mean((2, 3)))


def residual(bend: nn.Module | None = None) -> Network:
    """In double precision, with statistics of its own in the norm."""
    torch.manual_seed(0)
    module = Residual(nn.ReLU6() if bend is None else bend).double().eval()
    with torch.no_grad():
        module.norm.running_mean.normal_()
        module.norm.running_var.uniform_(0.5, 2)
        module.norm.weight.uniform_(0.5, 2)
        module.norm.bias.normal_()
    return cutaway.wrap(module, example=torch.zeros(1, 3, 8, 8).double())


def picture(size: int = 8) -> Tensor:
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1)).double() * 2


SITES = ("pool", "relu2", "added")


def graph(
    network: Network, target: str | int = 2, *, sites: tuple[str, ...] | None = None, bases: tuple = (), cell: int = 1,
    pool: int = 12, shown: Tensor | None = None,
) -> tuple[Opened, Links]:  # fmt: skip
    chosen = openings(network, SITES if sites is None else sites, bases)
    question = map_target(network, target, bases=bases)
    opened = open_up(network, network.prepare(picture() if shown is None else shown), question, list(chosen))
    return opened, link(opened, sweep(opened, chosen), cell=cell, pool=pool)


def edge(found: Links, source: str, target: str) -> float:
    return float(found.values[found.pool.index[target], found.pool.index[source]])


def check_conserved(opened: Opened, found: Links) -> None:
    """Out of every node, by another way than its value was found; into every node with its constants."""
    inner = np.array([node.kind in PARTS for node in found.pool.nodes])
    scale = max(1.0, float(np.abs(found.values).max()))
    assert np.allclose(found.values[:, inner].sum(0), found.shares[inner], atol=1e-4 * scale)
    assert np.allclose(found.values[inner].sum(1), found.shares[inner], atol=1e-4 * scale)
    assert found.values[-1].sum() == pytest.approx(opened.metric, abs=1e-4 * scale)
    assert found.gap < 1e-4 * scale and np.abs(found.shares[inner]).max() > 1e-3


def dictionaries(network: Network) -> tuple:
    first, *_, last = SITES
    return small(network, first, keep=4, seed=1), small(network, last, threshold=0.02, seed=2, size=0.1)


@pytest.mark.parametrize("bend", ["relu6", "silu"])
@pytest.mark.parametrize("coded", [False, True])
def test_every_share_goes_out(bend: str, coded: bool) -> None:
    network = residual(nn.SiLU() if bend == "silu" else None)
    opened, found = graph(network, bases=dictionaries(network) if coded else (), cell=2)
    check_conserved(opened, found)
    kinds = {node.kind for node in found.pool.nodes}
    assert ({ERROR, ERRORS} <= kinds) == coded and {INPUT, UNIT, UNITS, BIAS} <= kinds


def test_gradients_are_those_of_the_whole_network() -> None:
    """Walked back from site to site, against one backward pass through a network that was not cut apart."""
    network = residual()
    opened, found = graph(network)
    run = network.run(network.prepare(picture()), capture=SITES, grad=True)
    metric = run.logits[0, 2] - run.logits[0].mean()
    for site, gradient in zip(SITES, torch.autograd.grad(metric, [run[site] for site in SITES])):
        coded = found.sites[site]
        assert torch.allclose(coded.along, gradient[0].flatten(1).T[coded.row, coded.latent], atol=1e-9)
    assert opened.metric == pytest.approx(float(metric.detach()))


def test_units_and_errors_are_all_there_is_at_a_site() -> None:
    network = residual()
    basis = small(network, "added", threshold=0.3)
    found = graph(network, sites=(), bases=(basis,), cell=2)[1]
    run = network.run(network.prepare(picture()), capture=["added"], grad=True)
    (gradient,) = torch.autograd.grad(run.logits[0, 2] - run.logits[0].mean(), run["added"])
    rows = gradient[0].flatten(1).T
    by = {kind: sum(found.values[-1, n] for n, node in enumerate(found.pool.nodes) if node.kind in kind)
          for kind in ((UNIT, UNITS), (ERROR, ERRORS))}  # fmt: skip
    value = run["added"].detach()[0].flatten(1).T
    left = value - basis.reconstruct(value)
    assert by[ERROR, ERRORS] == pytest.approx(float((rows * left).sum()), abs=1e-9) and abs(by[ERROR, ERRORS]) > 1e-3
    assert by[UNIT, UNITS] == pytest.approx(float((rows * (value - left - basis.bias)).sum()), abs=1e-9)


def test_constants_are_those_of_the_parameters() -> None:
    """By Euler's rule a rectifying network is the sum of (constant) x (gradient by it) and (input) x (gradient)."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 2), nn.ReLU()).double()
    network = cutaway.wrap(module.eval(), example=picture())
    unit, y, x = (int(k[0]) for k in torch.where(module(picture())[0] == module(picture()).max()))
    target = f"4:{unit}@{y},{x}"
    opened, found = graph(network, target, sites=("1",), pool=200)
    own, below = (
        float((torch.autograd.grad(module(picture())[0, unit, y, x], part.bias)[0] @ part.bias).detach())
        for part in (module[3], module[0])
    )
    fed = sum(edge(found, BIAS, node.name) for node in found.pool.nodes if node.kind in PARTS)
    assert edge(found, BIAS, target) == pytest.approx(own, abs=1e-9)
    assert fed == pytest.approx(below, abs=1e-9) and abs(fed) > 1e-3
    shown = found.values[:, [node.kind == INPUT for node in found.pool.nodes]].sum()
    assert shown + fed + own == pytest.approx(opened.metric, abs=1e-9)


def test_two_layers_by_hand() -> None:
    """One pixel: y = 2 relu(3 p + 1) - relu(-p) at p = 0.5; the second unit is off and no node."""
    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1)).double()
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([3.0, -1.0]).view(2, 1, 1, 1))
        module[0].bias.copy_(torch.tensor([1.0, 0.0]))
        module[2].weight.copy_(torch.tensor([2.0, -1.0]).view(1, 2, 1, 1))
        module[2].bias.fill_(0.25)
    shown = torch.full((1, 1, 1, 1), 0.5).double()
    network = cutaway.wrap(module.eval(), example=shown)
    opened, found = graph(network, "2@0,0", sites=("1",), shown=shown)
    assert opened.metric == pytest.approx(5.25)
    assert edge(found, "1:0@0,0", "2@0,0") == pytest.approx(5.0)
    assert edge(found, "input@0,0", "1:0@0,0") == pytest.approx(3.0)
    assert edge(found, BIAS, "1:0@0,0") == pytest.approx(2.0) and edge(found, BIAS, "2@0,0") == pytest.approx(0.25)
    assert [node.name for node in found.pool.nodes if node.kind == UNIT] == ["1:0@0,0"]
    cut = cut_edges(opened, found, [(found.pool.index["1:0@0,0"], found.pool.index["input@0,0"])])
    assert cut[0] == pytest.approx(3.0)  # relu(1) is left
    assert set_to_zero(opened, found, [found.pool.index["1:0@0,0"]])[0] == pytest.approx(5.0)


def test_a_connection_past_a_site_is_an_edge_of_its_own() -> None:
    network = residual()
    opened, found = graph(network, 2, sites=SITES[:2], pool=400)
    w = network.module.head.weight.detach()
    direct = float((w[2] - w.mean(0))[0]) / 16
    run = network.run(network.prepare(picture()), capture=["pool"])["pool"]
    y, x = divmod(int(run[0, 0].argmax()), 4)
    # Straight past both convolutions, and nothing of what goes through the opened second rectifier.
    assert edge(found, f"pool:0@{y},{x}", found.pool.nodes[-1].name) == pytest.approx(direct * float(run[0, 0, y, x]))
    assert opened.question.unit == 2


def test_a_network_without_gates_does_what_every_edge_says() -> None:
    network = residual(nn.Identity())
    network.module.pool = nn.AvgPool2d(2)
    bases = (small(network, SITES[0], threshold=-100.0, width=8),)
    opened, found = graph(network, bases=bases, pool=15, cell=2)
    places = [(int(t), int(s)) for t, s in np.argwhere(found.values) if can_cut(found.pool.nodes[s])]
    said = np.array([found.values[place] for place in places])
    assert np.allclose(cut_edges(opened, found, places), said, atol=1e-9) and len(places) > 50
    own = [number for number, node in enumerate(found.pool.nodes) if node.kind == UNIT]
    assert np.allclose(set_to_zero(opened, found, own), found.shares[own], atol=1e-9)


def test_the_trivial_basis_gives_the_graph_of_channels() -> None:
    network = residual()
    site = SITES[0]
    one = graph(network, sites=(site,), pool=30)[1]
    two = graph(network, sites=(), bases=(neurons(6, origin(network, site)),), pool=30)[1]
    for node in one.pool.nodes:
        name = node.name.replace(f"{site}:", f"{site}@neurons:")
        if node.kind == UNIT:
            assert two.shares[two.pool.index[name]] == pytest.approx(node.value, abs=1e-6)
            assert edge(two, BIAS, name) == pytest.approx(edge(one, BIAS, node.name), abs=1e-5)
    errors = [node.kind in (ERROR, ERRORS) for node in two.pool.nodes]
    assert np.abs(two.values[:, errors]).max() < 1e-5


def test_a_cell_is_the_sum_of_its_pixels() -> None:
    network = residual()
    pixels, cells = (graph(network, pool=2000, cell=cell)[1] for cell in (1, 4))
    for node in cells.pool.nodes:
        if node.kind == UNIT and node.site == "pool":
            y0, x0, y1, x1 = node.pixels
            total = sum(
                each.value for each in pixels.pool.nodes
                if each.kind == UNIT and (each.site, each.unit) == (node.site, node.unit)
                and y0 <= each.pixels[0] < y1 and x0 <= each.pixels[1] < x1
            )  # fmt: skip
            assert node.value == pytest.approx(total, abs=1e-9)


def test_a_whole_trace() -> None:
    network = residual()
    bases = dictionaries(network)
    given = {"sites": (SITES[1],), "bases": bases, "cell": 2, "budget": Budget(pool=20, edges=30, floor=0)}
    found = trace_maps(network, picture(), 1, 3, **given)
    out = network.run(network.prepare(picture())).logits[0]
    assert found.metric == pytest.approx(float(out[1] - out[3])) and found.question == "why <1>"
    assert 0 < len(found.edges) <= 30 and found.tested is not None and found.tested.checked > 5
    assert all(e.check is None or e.check.predicted == e.value for e in found.edges)
    assert 0 < found.scores.replacement < 1 and found.scores.error > 0
    document = json.dumps(found.to_json(), allow_nan=False)
    assert document == json.dumps(trace_maps(network, picture(), 1, 3, **given).to_json(), allow_nan=False)
    feature = f"{bases[1].origin.writes}@small:{int(found.nodes[-2].unit or 0)}@1,1"
    assert trace_maps(network, picture(), feature, bases=bases, test=False).sites == (
        bases[0].origin.writes + "@small",
    )


def test_refused_in_a_sentence() -> None:
    network = residual()
    site = SITES[0]
    basis, other = small(network, site), residual()
    with torch.no_grad():
        other.module.head.bias.add_(1)
    cases: list[tuple[dict, type[CutawayError], str]] = [
        ({"target": "pool@1,1"}, BadInput, "several units"),
        ({"target": f"{site}:0@9,9"}, BadInput, "4 rows and 4 columns"),
        ({"target": f"{site}:77@0,0"}, BadInput, "there are 0 to 5"),
        ({"target": "cat"}, BadInput, "no output of"),
        ({"target": 17}, BadInput, "there are 0 to 4"),
        ({"target": 1, "against": 1}, BadInput, "against itself"),
        ({"target": "head@1,1"}, BadInput, "has no pixels"),
        ({"target": 1, "cell": 0}, BadInput, "give 1 or more"),
        ({"target": 1, "sites": ("head",)}, NotTestable, "has no pixels"),
        ({"target": 1, "bases": (basis, basis)}, BadInput, "Two bases"),
        ({"target": 1, "bases": (small(other, site),)}, BadInput, "was learned on"),
        ({"target": f"{site}:1@0,0", "sites": ("added",)}, BadInput, "not met on the way"),
        ({"target": f"{site}@other:1@0,0"}, BadInput, "none of that name"),
    ]
    for options, error, says in cases:
        with pytest.raises(error, match=says):
            trace_maps(network, picture(), **{"sites": (site,), "test": False, **options})
    with pytest.raises(BadInput, match="graph is of one"):
        trace_maps(network, torch.cat([picture(), picture()]), 1)
