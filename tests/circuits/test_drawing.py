"""Drawings: their colours, their scale, their text, the same bytes for the same picture."""

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from cutaway.circuits import Circuit, Edge, Factors, Node, factorize, relative_angle_profile
from cutaway.circuits.drawing import (
    angle_profile,
    circuit_diagram,
    factor_panels,
    kernel_tiles,
    save,
    to_bytes,
    weight_matrix,
)
from cutaway.circuits.drawing.style import COLOURS, NEGATIVE, POSITIVE
from cutaway.errors import BadInput

KERNELS = torch.tensor([[[2.0, 0.0], [0.0, -1.0]], [[0.5, 0.0], [0.0, 0.0]]])


def _images(figure) -> list:
    return [image for axes in figure.axes for image in axes.images]


def test_tiles_share_one_symmetric_scale_with_its_legend():
    figure = kernel_tiles(KERNELS, ["a:0", "a:1"], title="a to b:0", notes=["80 %", "20 %"])
    images = _images(figure)
    assert len(images) == 3  # two kernels and the scale
    assert {image.get_clim() for image in images} == {(-2.0, 2.0)}
    assert {image.get_cmap().name for image in images} == {COLOURS}
    assert torch.equal(torch.tensor(images[0].get_array().data).float(), KERNELS[0])
    text = to_bytes(figure, "svg").decode()
    for word in ("a to b:0", "a:0", "a:1", "80 %", "excites", "inhibits", "+2", "−2"):
        assert re.search(rf"<text[^>]*>{re.escape(word)}</text>", text), word  # text, not outlines


def test_the_ends_of_the_scale_differ_for_every_kind_of_colour_vision():
    import matplotlib

    colours = matplotlib.colormaps[COLOURS]
    middle, positive, negative = (np.array(colours(place)[:3]) for place in (0.5, 0.9, 0.1))
    assert middle.min() > 0.95
    # Red minus blue survives the loss of the red-green axis: its sign tells orange from purple.
    assert positive[0] - positive[2] > 0.5 and negative[2] - negative[0] > 0.1


def test_files_are_what_their_names_say(tmp_path):
    figure = kernel_tiles(KERNELS, ["a:0", "a:1"])
    svg = save(figure, tmp_path / "deep" / "tiles.svg").read_text()
    assert svg.startswith("<?xml") and "http://www.w3.org/2000/svg" in svg
    with Image.open(save(figure, tmp_path / "tiles.png")) as png:
        assert png.format == "PNG"
    with pytest.raises(BadInput, match=r"end the name in \.svg or \.png"):
        save(figure, tmp_path / "tiles.pdf")
    with pytest.raises(BadInput, match="choose svg or png"):
        to_bytes(figure, "pdf")


def test_a_figure_shows_itself_in_a_notebook():
    shown = kernel_tiles(KERNELS, ["a:0", "a:1"])._repr_png_()
    assert shown == to_bytes(kernel_tiles(KERNELS, ["a:0", "a:1"]), "png", dpi=100)
    assert Image.open(io.BytesIO(shown)).format == "PNG"


def test_a_scale_that_ends_early_says_so():
    matrix = torch.tensor([[1.0, -1.0], [0.0, 4.0]])  # the median magnitude is 1
    cut, whole = (
        to_bytes(weight_matrix(matrix, source="a", target="b", note="of all", saturate=share), "svg").decode()
        for share in (0.5, 1.0)
    )
    assert ">≥ +1<" in cut and ">≤ −1<" in cut and ">of all<" in cut
    assert ">+4<" in whole and ">−4<" in whole and "≥" not in whole


def test_the_same_picture_is_the_same_bytes():
    first, again = (to_bytes(kernel_tiles(KERNELS, ["a:0", "a:1"]), kind) for kind in ("svg", "svg"))
    assert first == again and b"<dc:date>" not in first


def test_a_drawing_leaves_no_global_state():
    import matplotlib

    before = dict(matplotlib.rcParams)
    to_bytes(kernel_tiles(KERNELS, ["a:0", "a:1"]), "svg")
    assert dict(matplotlib.rcParams) == before


def test_a_matrix_shows_rows_as_targets_and_angles_as_ticks():
    matrix = torch.tensor([[1.0, -3.0, 0.0], [0.0, 2.0, 1.0]])
    figure = weight_matrix(matrix, source="s", target="t", source_angles=[0.0, 120.0, 240.0], target_angles=[0.0, 90.0])
    axes = figure.axes[0]
    assert _images(figure)[0].get_array().shape == (2, 3) and _images(figure)[0].get_clim() == (-3, 3)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0°", "120°", "240°"]
    assert axes.get_ylabel().startswith("t")
    with pytest.raises(BadInput, match="3 columns"):
        weight_matrix(matrix, source="s", target="t", source_angles=[0.0])
    many = weight_matrix(torch.randn(100, 4), source="s", target="t", saturate=0.9)
    assert len(many.axes[0].get_yticklabels()) <= 48


def _circuit() -> Circuit:
    nodes = (Node("a:1", 0), Node("a:2", 0), Node("b:0", 1))
    return Circuit(nodes, (Edge("a:1", "b:0", 2.0, 2.0), Edge("a:2", "b:0", -1.0, 1.0, "effective", False)))


def test_edges_have_the_colour_of_their_sign_and_the_width_of_their_weight():
    from matplotlib.colors import to_hex
    from matplotlib.patches import PathPatch

    figure = circuit_diagram(_circuit(), title="b:0")
    edges = {patch.get_gid(): patch for patch in figure.axes[0].patches if isinstance(patch, PathPatch)}
    assert to_hex(edges["a:1->b:0"].get_edgecolor()) == POSITIVE
    assert to_hex(edges["a:2->b:0"].get_edgecolor()) == NEGATIVE
    wide, narrow = (edges[name].get_linewidth() for name in ("a:1->b:0", "a:2->b:0"))
    assert wide == pytest.approx(6.0) and narrow == pytest.approx(0.4 + 5.6 / 2)
    assert edges["a:1->b:0"].get_linestyle() == "-" and edges["a:2->b:0"].get_linestyle() != "-"
    text = to_bytes(figure, "svg").decode()
    for word in ("a:1", "a:2", "b:0", "+2", "−1", "excites", "inhibits", "dashed: a nonlinearity lies between"):
        assert f">{word}</text>" in text, word


def test_thumbnails_stand_for_their_units():
    figure = circuit_diagram(_circuit(), thumbnails={"a:1": np.full((4, 4, 3), 0.5)})
    assert len(figure.axes[0].images) == 1
    assert Image.open(io.BytesIO(to_bytes(figure, "png"))).size[0] > 200
    with pytest.raises(BadInput, match="without units"):
        circuit_diagram(Circuit((), ()))


def test_factors_and_profiles_draw():
    factors = factorize(torch.randn(1, 6, 3, 3), 2, source="a", shuffles=0)
    assert isinstance(factors, Factors)
    text = to_bytes(factor_panels(factors, title="a to b"), "svg").decode()
    assert "factor 1: explains" in text and ">a:" in text
    profile = relative_angle_profile(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), [0.0, 180.0], [0.0, 180.0], bins=2)
    bars = angle_profile(profile).axes[0].patches
    assert sorted(bar.get_height() for bar in bars) == [-1, 1]


def test_labels_must_fit_the_kernels():
    with pytest.raises(BadInput, match="3 labels were given for 2 kernels"):
        kernel_tiles(KERNELS, ["a", "b", "c"])
