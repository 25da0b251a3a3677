"""Two steps of attribution that are easy to get wrong: which gradient meets which difference, and what a mean is.

Node attribution (attribution patching, Nanda 2023; Syed et al. 2023) multiplies a change of a node's *output* with the
gradient at that *output*. The gradient at its input has the same shape and gives numbers without meaning, so arrays
here carry the name of their site.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from cutaway.errors import BadInput


@dataclass(frozen=True, eq=False)
class AtSite:
    """An array and the place in the forward pass that it belongs to (``layers.3.mlp.out``, not ``layers.3.mlp``)."""

    site: str
    values: Float[np.ndarray, "pair *rest"]


def node_attribution(delta_out: AtSite, grad_out: AtSite) -> Float[np.ndarray, " pair"]:
    """First-order effect, by pair, of giving a node its corrupt output: sum of (z' - z) * dm/dz at the same site.

    Exact where the metric is linear in this node's output. :class:`BadInput` if the two arrays are of different
    sites or shapes.
    """
    if delta_out.site != grad_out.site:
        raise BadInput(
            f"A difference at {delta_out.site!r} was to meet a gradient at {grad_out.site!r}; "
            "take the gradient where the difference is."
        )
    if delta_out.values.shape != grad_out.values.shape:
        raise BadInput(
            f"At {delta_out.site!r} the difference has shape {delta_out.values.shape} and the gradient "
            f"{grad_out.values.shape}; both need the shape of the site."
        )
    product = delta_out.values.astype(np.float64) * grad_out.values
    return product.reshape(len(product), -1).sum(axis=1)


def position_mean(
    activations: Float[np.ndarray, "example pos d"], mask: Bool[np.ndarray, "same_example same_pos"] | None = None
) -> Float[np.ndarray, "pos d"]:
    """What mean ablation puts at each position: the mean over the examples that have a token there.

    ``mask`` is False on padding. A position that no example reaches is NaN. Means over positions or nodes would put
    in values that the network never sees at that place.
    """
    real = np.ones(activations.shape[:2], dtype=bool) if mask is None else mask
    if real.shape != activations.shape[:2] or not len(real):
        raise BadInput(f"The mask has shape {real.shape}, the activations {activations.shape}; give one mark a token.")
    kept = np.where(real[..., None], activations.astype(np.float64), 0.0)
    count = real.sum(axis=0)[:, None]
    return np.divide(kept.sum(axis=0), count, out=np.full(kept.shape[1:], np.nan), where=count > 0)
