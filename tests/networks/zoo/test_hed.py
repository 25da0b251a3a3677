"""The edge detector against a second implementation that shares nothing with torch, and against what edges are."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from cutaway.networks import zoo
from cutaway.networks.zoo.convert import hed_names
from cutaway.networks.zoo.hed import DEPTHS, VGG16HED, WIDTHS
from tests.networks.zoo.fetched import vision

TOLERANCE = 1e-4


def reference(weights: dict[str, np.ndarray], picture: np.ndarray) -> np.ndarray:
    """HED in numpy, double precision: ``[3, y, x] -> [y, x]``; written from the paper's description."""
    x, sides = picture, []
    rows, columns = picture.shape[1:]
    for block, depth in enumerate(DEPTHS, start=1):
        if block > 1:
            x = pooled(x)
        for layer in range(1, depth + 1):
            name = f"conv{block}_{layer}"
            x = np.maximum(correlated(x, weights[f"{name}.weight"], weights[f"{name}.bias"]), 0)
        readout = weights[f"side{block}.weight"][0, :, 0, 0]
        side = np.tensordot(readout, x, axes=1) + weights[f"side{block}.bias"][0]
        sides.append(enlarged(side, rows, columns))
    return np.tensordot(weights["fuse.weight"][0, :, 0, 0], np.stack(sides), axes=1) + weights["fuse.bias"][0]


def correlated(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """A 3x3 correlation with one pixel of zeros around: nine shifted matrix products."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    rows, columns = x.shape[1:]
    total = np.zeros((kernel.shape[0], rows, columns)) + bias[:, None, None]
    for i in range(3):
        for j in range(3):
            total += np.tensordot(kernel[:, :, i, j], padded[:, i : i + rows, j : j + columns], axes=1)
    return total


def pooled(x: np.ndarray) -> np.ndarray:
    """The largest of each 2x2 cell; a last odd row or column is a cell of its own."""
    odd = [(0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2)]
    x = np.pad(x, odd, constant_values=-np.inf)
    return x.reshape(x.shape[0], x.shape[1] // 2, 2, x.shape[2] // 2, 2).max(axis=(2, 4))


def enlarged(side: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Bilinear interpolation with pixel centres at half coordinates and repeated borders."""
    y = (np.arange(rows) + 0.5) * side.shape[0] / rows - 0.5
    x = (np.arange(columns) + 0.5) * side.shape[1] / columns - 0.5
    return ndimage.map_coordinates(side, np.meshgrid(y, x, indexing="ij"), order=1, mode="nearest")


def doubles(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.double().numpy() for name, tensor in module.state_dict().items()}


@pytest.mark.zoo
@pytest.mark.parametrize("size", [(48, 48), (37, 51)], ids=["even", "odd at every pooling"])
def test_the_trained_network_matches_a_plain_implementation(size):
    module = vision("vgg16-hed")
    rng = np.random.default_rng(0)
    picture = ndimage.gaussian_filter(rng.normal(0, 300, (3, *size)), (0, 2, 2))
    with torch.no_grad():
        found = module(torch.tensor(picture[None], dtype=torch.float32))[0, 0].numpy()
    wanted = reference(doubles(module), picture)
    assert np.ptp(wanted) > 1
    np.testing.assert_allclose(found, wanted, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.zoo
@pytest.mark.parametrize("photo", ["astronaut", "camera", "coffee"])
def test_edge_maps_of_photographs_look_like_edges(photo):
    """Strong where the brightness changes, close to nothing where it does not, and thin."""
    from skimage import data

    preprocess = zoo.entry("vgg16-hed").preprocess
    picture = Image.fromarray(getattr(data, photo)())
    with torch.no_grad():
        edges = torch.sigmoid(vision("vgg16-hed")(preprocess(picture)[None]))[0, 0].numpy()
    grey = np.asarray(preprocess.fit(picture.convert("RGB")).convert("L"), dtype=float)
    strength = ndimage.gaussian_gradient_magnitude(grey, 2)
    correlation = np.corrcoef(edges.ravel(), strength.ravel())[0, 1]
    flat = edges[strength < np.quantile(strength, 0.2)].mean()
    steep = edges[strength > np.quantile(strength, 0.95)].mean()
    assert correlation > 0.5
    assert flat < 0.1
    assert steep > 4 * flat
    assert steep > 0.3


@pytest.mark.zoo
def test_the_edge_logit_splits_exactly_over_channels():
    """``logit = b + sum_k f_k up(side_k)``, and each side is a sum over channels: named modules give all parts."""
    module = vision("vgg16-hed")
    kept: dict[str, torch.Tensor] = {}
    names = [f"relu{block}_{depth}" for block, depth in enumerate(DEPTHS, 1)] + [f"side{k}_up" for k in range(1, 6)]
    hooks = [
        module.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: kept.update({name: out}))
        for name in names
    ]
    with torch.no_grad():
        logit = module(torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 50)
        total = module.fuse.bias.reshape(1, 1, 1, 1).clone()
        for block, depth in enumerate(DEPTHS, start=1):
            side = module.get_submodule(f"side{block}")
            channels = kept[f"relu{block}_{depth}"] * side.weight[0, :, 0, 0].reshape(1, -1, 1, 1)
            up = module.get_submodule(f"side{block}_up")(channels.sum(1, keepdim=True) + side.bias, (32, 32))
            total = total + module.fuse.weight[0, block - 1] * up
            torch.testing.assert_close(up, kept[f"side{block}_up"], atol=1e-3, rtol=1e-4)
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(total, logit, atol=1e-3, rtol=1e-4)


def test_the_untrained_module_has_vggs_shape():
    module = VGG16HED()
    parameters = sum(parameter.numel() for name, parameter in module.named_parameters() if name.startswith("conv"))
    assert parameters == 14_714_688  # the convolutions of VGG16
    assert [module.get_submodule(f"side{k}").in_channels for k in range(1, 6)] == list(WIDTHS)


def test_keras_kernels_are_turned_to_torch_order():
    tensors: dict[str, torch.Tensor] = {}
    for block, depth in enumerate(DEPTHS, start=1):
        inputs = 3 if block == 1 else WIDTHS[block - 2]
        for layer in range(depth):
            suffix = f"_{layer}" if layer else ""
            shape = (3, 3, inputs if layer == 0 else WIDTHS[block - 1], WIDTHS[block - 1])
            tensors[f"block{block}/layers/conv2d{suffix}/vars/0"] = torch.zeros(shape)
            tensors[f"block{block}/layers/conv2d{suffix}/vars/1"] = torch.zeros(shape[-1])
        tensors[f"dsn{block}/vars/0"] = torch.zeros(1, 1, WIDTHS[block - 1], 1)
        tensors[f"dsn{block}/vars/1"] = torch.zeros(1)
    tensors["fuse/vars/0"], tensors["fuse/vars/1"] = torch.zeros(1, 1, 5, 1), torch.zeros(1)
    tensors["block1/layers/conv2d/vars/0"][0, 2, 1, 7] = 5.0  # row 0, column 2, input 1, output 7
    renamed = hed_names(tensors)
    assert renamed["conv1_1.weight"][7, 1, 0, 2] == 5.0
    VGG16HED().load_state_dict(renamed, strict=True)
