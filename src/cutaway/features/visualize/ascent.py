"""Gradient ascent on a batch of images at once, through the network up to the last site that is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from cutaway.errors import BadInput
from cutaway.features.collect import Progress, silent
from cutaway.features.visualize.canvas import check_site
from cutaway.features.visualize.objectives import Objective, Reference, Step
from cutaway.features.visualize.parametrize import Image, background
from cutaway.features.visualize.redirect import redirected
from cutaway.features.visualize.transforms import GRAY, STRONG, Transforms, Warp
from cutaway.networks.network import Batch, Network

_LEAST_GRADIENT = 1e-15  # squares of smaller numbers vanish in float32
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Effort:
    """How images are optimized: Adam with ``learning_rate``, redirected gradients in the first steps, and speed.

    ``damping`` is Adam's epsilon for gradients divided by each image's root mean square: coefficients whose gradient is
    small against it move less. Plain Adam (1e-8) moves those at full speed too, in directions that are mostly noise.
    ``channels_last`` is a memory layout (a third faster on CPUs, same images up to rounding); ``precision`` bfloat16
    runs the network under autocast, which pays only where the hardware has it.
    """

    steps: int = 64
    learning_rate: float | int = 0.08
    redirect_steps: int = 16
    damping: float | int = 0.05
    channels_last: bool = True
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.redirect_steps < 0 or not self.learning_rate > 0 or not self.damping > 0:
            raise BadInput(
                f"{self.steps} steps at a learning rate of {self.learning_rate:g} were asked for; give at least 1 step "
                "and a rate and a damping above 0."
            )
        if self.precision not in PRECISIONS:
            raise BadInput(f"Precision {self.precision!r} was asked for; choose {' or '.join(PRECISIONS)}.")


def optimize(
    network: Network,
    objective: Objective,
    image: Image,
    *,
    effort: Effort | None = None,
    transforms: Transforms = STRONG,
    seed: int = 0,
    progress: Progress = silent,
) -> Float[Tensor, "step batch"]:
    """Makes ``objective`` large by changing the image's parameters in place; returns every item's score at every step.

    One movement is drawn for the whole batch at each step. The network is left as it was: no hook, no gradient.
    Raises ``BadInput`` for a canvas that the network does not take and for scores that are not finite.
    """
    effort = effort or Effort()
    _check(network, objective, image)
    generator = torch.Generator().manual_seed(seed)
    adam = Adam(image.parameters, effort.learning_rate, effort.damping)
    history = []
    for step in range(effort.steps):
        with redirected(network.module) if step < effort.redirect_steps else nullcontext():
            score = _scored(network, objective, image, transforms.draw(generator), generator, effort)
            adam.climb(score)
        history.append(score.detach())
        progress(step + 1, effort.steps, f"optimizing {len(image)} images")
    scores = torch.stack(history)
    if not torch.isfinite(scores).all():
        raise BadInput(f"The objective ({objective.text}) became infinite; give a smaller learning rate or weight.")
    return scores


def finished(image: Image) -> tuple[Float[Tensor, "batch 3 y x"], Float[Tensor, "batch y x"] | None]:
    """The images as they are now, RGB in 0..1, and their opacity."""
    with torch.no_grad():
        alpha = None if image.alpha is None else image.alpha()[:, 0].clone()
        return image.rgb().clone(), alpha


def activations(
    network: Network, site: str, pictures: Float[Tensor, "batch 3 y x"]
) -> Float[Tensor, "batch unit *place"]:
    """What a site does on pictures (RGB, 0..1), nothing moved; units on axis 1."""
    run = network.run(network.prepare_rgb(pictures), capture=[site], stop_at=True)
    return _moved(network, site, run[site])


def _check(network: Network, objective: Objective, image: Image) -> None:
    for name in objective.sites:
        check_site(network, network.site(name))
    if objective.items is not None and objective.items != len(image):
        raise BadInput(
            f"An objective for {objective.items} images was given for {len(image)}; give one unit for each image."
        )


class Adam:
    """Adam (Kingma and Ba 2015, betas 0.9 and 0.999) on a few tensors, upwards.

    Each image's gradient is divided by its root mean square first. Written here because ``torch.optim`` loads torch's
    compiler, which takes longer than many a run.
    """

    def __init__(self, parameters: Sequence[Tensor], rate: float | int, epsilon: float | int) -> None:
        self.parameters, self.rate, self.epsilon = tuple(parameters), rate, epsilon
        self._first = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._second = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._steps = 0

    def climb(self, scores: Float[Tensor, " batch"]) -> None:
        """One step; gradients of the images alone are computed, the network's parameters get none."""
        # As a loss: that is what redirected rectifiers take their gradients to be of.
        gradients = torch.autograd.grad(-scores.sum(), self.parameters)
        count = sum(gradient[0].numel() for gradient in gradients)
        squares = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients]).sum(0)
        length = (squares / count).sqrt().clamp(min=_LEAST_GRADIENT)
        self._steps += 1
        bias, bias2 = 1 - 0.9**self._steps, 1 - 0.999**self._steps
        with torch.no_grad():
            for parameter, gradient, first, second in zip(self.parameters, gradients, self._first, self._second):
                gradient = gradient / length.reshape(-1, *[1] * (gradient.ndim - 1))
                first.mul_(0.9).add_(gradient, alpha=0.1)
                second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
                parameter.addcdiv_(first, (second / bias2).sqrt_().add_(self.epsilon), value=-self.rate / bias)


def _scored(
    network: Network, objective: Objective, image: Image, warp: Warp, generator: torch.Generator, effort: Effort
) -> Float[Tensor, " batch"]:
    rgb, alpha = image.rgb(), None if image.alpha is None else image.alpha()
    size = (int(rgb.shape[-2]), int(rgb.shape[-1]))
    shown = rgb if alpha is None else composed(rgb, alpha, background(size, generator).to(rgb))
    acts, output = _seen(network, objective, warp(shown), effort)
    seen = Step(acts, rgb, output, alpha, partial(_reference, network, warp, size))
    return objective(seen)


def composed(rgb: Tensor, alpha: Tensor, behind: Tensor | float) -> Tensor:
    """The image laid on a background."""
    return rgb * alpha + behind * (1 - alpha)


def on_gray(
    rgb: Float[Tensor, "batch 3 y x"], alpha: Float[Tensor, "batch y x"] | None
) -> Float[Tensor, "batch 3 y x"]:
    """The image laid on middle gray where it is transparent."""
    return rgb if alpha is None else composed(rgb, alpha[:, None], GRAY)


def _seen(
    network: Network, objective: Objective, shown: Tensor, effort: Effort
) -> tuple[dict[str, Tensor], Tensor | None]:
    """Activations and, if wanted, the output on what is shown."""
    if not objective.sites and not objective.wants_output:
        return {}, None
    batch = _laid_out(network.prepare_rgb(shown), effort)
    stop = None if objective.wants_output else True
    low = effort.precision != "float32"
    with torch.autocast(shown.device.type, torch.bfloat16, enabled=low), _one_sentence(network, shown):
        run = network.run(batch, capture=sorted(objective.sites), stop_at=stop, grad=True)
    acts = {site: _moved(network, site, run[site]).float() for site in objective.sites}
    return acts, None if run.output is None else run.output.float()


def _laid_out(batch: Batch, effort: Effort) -> Batch:
    if not effort.channels_last:
        return batch
    inputs = {key: value.contiguous(memory_format=torch.channels_last) for key, value in batch.inputs.items()}
    return Batch(inputs, batch.ids, batch.mask)


@contextmanager
def _one_sentence(network: Network, shown: Tensor) -> Iterator[None]:
    """Turns torch's errors about shapes into one that names the canvas."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError) as error:
        rows, columns = shown.shape[-2:]
        first = " ".join(str(error).split())[:160]
        raise BadInput(
            f"{network.name} does not take pictures of {rows} x {columns} pixels ({first}); give another size=."
        ) from error


def _moved(network: Network, site: str, acts: Tensor) -> Tensor:
    """Units on axis 1."""
    return acts.movedim(network.site(site).unit_axis, 1)


def _reference(
    network: Network, warp: Warp, size: tuple[int, int], picture: Tensor, site: str, target: str | None
) -> Reference:
    """A fixed picture under the step's movement: activations, and the gradient of a target's strongest position."""
    if picture.ndim != 3 or picture.shape[0] != 3:
        raise BadInput(f"A picture of shape {tuple(picture.shape)} was given; give RGB [3 y x] in 0..1.")
    resized = functional.interpolate(picture[None].float(), size=size, mode="bilinear", align_corners=False)
    batch = network.prepare_rgb(warp(resized.to(network.device)))
    if target is None:
        run = network.run(batch, capture=[site], stop_at=True)
        return Reference(_moved(network, site, run[site]))
    address = network.address(target)
    run = network.run(batch, capture=[site, address.site], stop_at=True, grad=True)
    best = _moved(network, address.site, run[address.site])[0, address.unit].max()
    (gradient,) = torch.autograd.grad(best, run[site], allow_unused=True)
    if gradient is None:
        raise BadInput(f"{target} does not depend on {site}; name a site before it.")
    return Reference(_moved(network, site, run[site]).detach(), _moved(network, site, gradient))
