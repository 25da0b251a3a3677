"""InceptionV1 on random weights against a plain re-implementation, site by site, in every layout."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cutaway.errors import BadFile, UnknownName
from cutaway.networks import Ablate, Network
from cutaway.networks.inception import (
    GRAPH,
    MIXED,
    TORCHVISION,
    InceptionV1,
    ResponseNorm,
    branch_units,
    inception_v1,
    layout_of,
)
from tests.networks.inception import plain

PUBLISHED_SIZES = [64, 64, 192, 256, 480, 508, 512, 512, 528, 832, 832, 1024]
PICTURES = torch.randn(2, 3, 75, 98, generator=torch.Generator().manual_seed(9)) * 40


def saved(tensors: plain.Tensors, folder: Path, name: str = "weights.safetensors") -> Path:
    path = folder / name
    if path.suffix == ".npz":
        np.savez(path, **{key: tensor.numpy() for key, tensor in tensors.items()})  # type: ignore[arg-type]
    elif path.suffix == ".pth":
        torch.save(tensors, path)
    else:
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    return path


@pytest.fixture
def graph() -> plain.Tensors:
    return plain.random_graph(plain.little("graph"))


@pytest.fixture
def torchvision() -> plain.Tensors:
    return plain.random_torchvision(plain.little("torchvision"))


def close(found: Tensor, expected: Tensor) -> None:
    """Equal but for rounding in single precision, at the scale of the largest value."""
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))


def agrees_everywhere(network: Network, expected: plain.Tensors, pictures: Tensor) -> None:
    """Every site that both know has the same values, and both know all but poolings and norms."""
    names = [site.name for site in network.sites()]
    run = network.run(pictures, capture=names)
    for name in names:
        if name in expected:
            assert expected[name].abs().max() > 0.05, f"{name} is all but silent, so the comparison says nothing"
            close(run[name], expected[name])
    close(run.logits, expected["softmax2_pre_activation"])
    unknown = {site.kind for site in network.sites() if site.name not in expected and not site.name.endswith(".pre")}
    assert unknown <= {"pool", "norm"}
    after = set(expected) - set(names)
    assert {name.split("_")[-1] for name in after} <= {"1x1", "3x3", "5x5", "reduce"}, "branches after the rectifier"


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.npz", "weights.pth"])
def test_the_graphs_layout_computes_what_plain_functions_compute(
    graph: plain.Tensors, tmp_path: Path, name: str
) -> None:
    network = inception_v1(saved(graph, tmp_path, name))
    agrees_everywhere(network, plain.graph_forward(graph, PICTURES), PICTURES)


def test_torchvisions_layout_computes_what_plain_functions_compute(torchvision: plain.Tensors, tmp_path: Path) -> None:
    network = inception_v1(saved(torchvision, tmp_path, "googlenet.pth"))
    agrees_everywhere(network, plain.torchvision_forward(torchvision, PICTURES), PICTURES)


def test_the_ports_layout_is_the_graph_under_other_names(graph: plain.Tensors, tmp_path: Path) -> None:
    port = inception_v1(saved(plain.as_port(graph), tmp_path, "port.pth"))
    same = inception_v1(saved(graph, tmp_path))
    assert port.fingerprint == same.fingerprint


@pytest.mark.parametrize(
    ("plan", "random", "forward"),
    [
        (GRAPH, plain.random_graph, plain.graph_forward),
        (TORCHVISION, plain.random_torchvision, plain.torchvision_forward),
    ],
    ids=["graph", "torchvision"],
)
def test_the_published_sizes(plan, random: Callable, forward: Callable, tmp_path: Path) -> None:
    tensors = random(plan)
    network = inception_v1(saved(tensors, tmp_path, "full.pth"))
    sizes = [network.site(name).width for name in ("conv2d0", "conv2d1", "conv2d2", *MIXED)]
    wider = {5: 512} if plan is TORCHVISION else {}
    assert sizes == [wider.get(place, size) for place, size in enumerate(PUBLISHED_SIZES)]
    assert network.notes == ()
    picture = 40 * torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    run = network.run(picture, capture=["mixed3a", "mixed4a", "mixed5b"])
    assert [run[name].shape[-1] for name in ("mixed3a", "mixed4a", "mixed5b")] == [28, 14, 7]
    expected = forward(tensors, picture)["softmax2_pre_activation"]
    assert run.logits.shape == (1, plan.classes)
    close(run.logits, expected)


def test_sites_are_the_threads_and_capturing_them_changes_nothing(graph: plain.Tensors, tmp_path: Path) -> None:
    network = inception_v1(saved(graph, tmp_path))
    with torch.no_grad():
        bare = network.module(PICTURES)
    names = [site.name for site in network.sites()]
    run = network.run(PICTURES, capture=names)
    assert torch.equal(run.logits, bare)
    assert {"conv2d0", "conv2d2.pre", "mixed3b", "mixed3b.pre", "mixed4b_3x3_bottleneck", "mixed5b_5x5.pre"} <= set(
        names
    )
    for site in network.sites():
        assert run[site.name].ndim == len(site.layout.split())
        assert run[site.name].shape[site.unit_axis] == site.width, site.name
        if site.name.endswith(".pre") and site.name.removesuffix(".pre") in names:
            assert torch.equal(run[site.name].relu(), run[site.name.removesuffix(".pre")])
    assert str(network.address("mixed3b:3")) == "mixed3b:3"
    assert (network.family, network.task, network.modality) == ("inception", "classifier", "image")


def test_branches_are_ranges_of_a_mixed_layers_units(graph: plain.Tensors, tmp_path: Path) -> None:
    network = inception_v1(saved(graph, tmp_path))
    assert isinstance(network.module, InceptionV1)
    units = branch_units(network.module, "mixed3a")
    assert [list(each) for each in units.values()] == [
        list(range(6)),
        list(range(6, 14)),
        list(range(14, 19)),
        list(range(19, 25)),
    ]
    run = network.run(PICTURES, capture=["mixed3a.pre", "mixed3a_5x5.pre"])
    assert torch.equal(run["mixed3a.pre"][:, list(units["5x5"])], run["mixed3a_5x5.pre"])
    with pytest.raises(UnknownName, match="mixed layer named 'mixed3'"):
        branch_units(network.module, "mixed3")


def test_ablating_a_branchs_input_changes_only_that_branch(graph: plain.Tensors, tmp_path: Path) -> None:
    network = inception_v1(saved(graph, tmp_path))
    units = branch_units(network.module, "mixed4b")  # type: ignore[arg-type]
    clean = network.run(PICTURES, capture=["mixed4b.pre"])["mixed4b.pre"]
    edit = Ablate("mixed4b_5x5_bottleneck", list(range(9)), to="zero")
    edited = network.run(PICTURES, capture=["mixed4b.pre"], edits=[edit])["mixed4b.pre"]
    changed = (clean != edited).flatten(2).any(-1).any(0).nonzero().flatten().tolist()
    assert changed
    assert set(changed) <= set(units["5x5"])


def test_the_ports_response_norm_can_be_asked_for(
    graph: plain.Tensors, torchvision: plain.Tensors, tmp_path: Path
) -> None:
    path = saved(graph, tmp_path)
    own = inception_v1(path, response_norm=ResponseNorm(radius=4, alpha=1e-4 / 9))
    run = own.run(PICTURES, capture=["maxpool0", "localresponsenorm0"])
    expected = torch.nn.functional.local_response_norm(run["maxpool0"], 9, alpha=1e-4, beta=0.5, k=1.0)
    torch.testing.assert_close(run["localresponsenorm0"], expected)
    assert not torch.allclose(run.logits, inception_v1(path).run(PICTURES).logits, rtol=1e-3)
    without = inception_v1(saved(torchvision, tmp_path, "tv.pth"), response_norm=ResponseNorm())
    assert "localresponsenorm0" not in {site.name for site in without.sites()}


# -- preparing pictures --------------------------------------------------------------------------------------------


def test_pictures_are_prepared_as_each_style_expects(
    graph: plain.Tensors, torchvision: plain.Tensors, tmp_path: Path
) -> None:
    from PIL import Image

    grey = Image.new("RGB", (300, 260), (117, 117, 117))
    first = inception_v1(saved(graph, tmp_path)).prepare([grey]).inputs[""]
    assert first.shape == (1, 3, 224, 224)
    assert torch.equal(first, torch.zeros_like(first))
    second = inception_v1(saved(torchvision, tmp_path, "other.pth")).prepare([grey]).inputs[""]
    # ImageNet's mean and standard deviation, then torchvision's transform_input, for the red channel
    expected = ((117 / 255 - 0.485) / 0.229) * (0.229 / 0.5) + (0.485 - 0.5) / 0.5
    torch.testing.assert_close(second[:, 0], torch.full_like(second[:, 0], expected), rtol=0, atol=1e-6)


def test_a_preprocess_of_the_users_own_is_taken(graph: plain.Tensors, tmp_path: Path) -> None:
    def own(_picture: object) -> Tensor:
        return torch.zeros(3, 64, 64)

    assert inception_v1(saved(graph, tmp_path), preprocess=own).preprocess is own


# -- faults --------------------------------------------------------------------------------------------------------


def message(tensors: plain.Tensors, folder: Path) -> str:
    with pytest.raises(BadFile) as caught:
        inception_v1(saved(tensors, folder, "faulty.pth"))
    return str(caught.value)


def test_a_missing_tensor_is_named(graph: plain.Tensors, torchvision: plain.Tensors, tmp_path: Path) -> None:
    del graph["mixed4c_5x5_bottleneck_b"], graph["softmax2_w"]
    assert "graph layout and lacks mixed4c_5x5_bottleneck_b and 1 more" in message(graph, tmp_path)
    del torchvision["inception4e.branch3.1.bn.running_var"]
    assert "torchvision layout and lacks inception4e.branch3.1.bn.running_var;" in message(torchvision, tmp_path)


def test_a_tensor_too_many_is_named_and_auxiliary_heads_are_not(graph: plain.Tensors, tmp_path: Path) -> None:
    graph |= {"head0_bottleneck_w": torch.zeros(1), "nn1_b": torch.zeros(1), "softmax1_b": torch.zeros(1)}
    inception_v1(saved(graph, tmp_path))
    graph["mixed6a_1x1_w"] = torch.zeros(1)
    assert "holds mixed6a_1x1_w besides" in message(graph, tmp_path)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("mixed3b_3x3_w", (3, 3, 8, 8), "shape (3, 3, 8, 8), expected (3, 3, 7, 8)"),
        ("conv2d0_w", (5, 5, 3, 7), "shape (5, 5, 3, 7), expected (7, 7, 3, 7)"),
        ("mixed4a_1x1_b", (9,), "shape (9,), expected (6,)"),
        ("softmax2_w", (7, 7), "shape (7, 7), expected (27, 7)"),
        ("mixed5b_5x5_w", (3, 3), "shape (3, 3), expected the four axes of a kernel"),
        ("mixed5b_5x5_w", (5, 5, 0, 3), "expected the four axes of a kernel"),
    ],
)
def test_a_misshapen_tensor_is_named_with_both_shapes(
    graph: plain.Tensors, tmp_path: Path, name: str, shape: tuple[int, ...], words: str
) -> None:
    graph[name] = torch.zeros(shape)
    assert f"holds {name} of shape" in message(graph, tmp_path)
    assert words in message(graph, tmp_path)


def test_whole_numbers_are_refused(graph: plain.Tensors, tmp_path: Path) -> None:
    graph["conv2d1_b"] = torch.zeros(8, dtype=torch.int64)
    assert "conv2d1_b of type torch.int64" in message(graph, tmp_path)


def test_half_precision_files_run_in_single_precision(graph: plain.Tensors, tmp_path: Path) -> None:
    halved = inception_v1(saved({name: tensor.half() for name, tensor in graph.items()}, tmp_path))
    assert {parameter.dtype for parameter in halved.module.parameters()} == {torch.float32}
    assert torch.isfinite(halved.run(PICTURES).logits).all()


def test_a_file_of_something_else_is_refused_and_not_recognised(graph: plain.Tensors, tmp_path: Path) -> None:
    assert "holds neither conv2d0_w nor" in message({"weight": torch.zeros(2, 2)}, tmp_path)
    assert layout_of({"weight": torch.zeros(1)}) is None
    assert [layout_of(each) for each in (graph, plain.as_port(graph))] == ["graph", "port"]


def test_unusual_widths_are_noted(graph: plain.Tensors, tmp_path: Path) -> None:
    assert any("widths" in note for note in inception_v1(saved(graph, tmp_path)).notes)
