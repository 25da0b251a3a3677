"""Feature visualization: channels a minute against a plain loop with Lucid's schedule, and what a step costs.

    python -m bench.visualize            vgg16-hed, conv3_3: about two minutes
    python -m bench.visualize --smoke    a random network of three layers: does it still run?

The plain loop is what people write: one channel at a time on 224 pixels, the whole network forward, Fourier parameters,
pad 12, jitter 8, scale, rotate, jitter 4, Adam at 0.05. Both sides get the same steps (fewer than Lucid's 512, to save
time), the same channels, and are judged by the same function: the channel's best position on the finished image,
nothing moved. torch-lucent joins in where it can be imported.
"""

import argparse
import json
import math
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch.nn import functional

from bench.timing import paired
from cutaway.features.visualize import (
    Effort,
    ImageSpec,
    best_activations,
    channel,
    for_field,
    fourier,
    optimize,
    visualize,
)
from cutaway.networks import load, wrap


@dataclass(frozen=True)
class Sizes:
    """What is measured: ``compared`` channels are made by every tool, ``units`` by ours in one batch."""

    site: str
    compared: tuple[int, ...]
    units: int
    steps: int
    plain_canvas: int
    canvas: int
    batch: int
    rounds: int
    counts: tuple[int, ...]


FULL = Sizes("conv3_3", (152, 185, 3, 48), 16, 32, 224, 56, 16, 7, (64, 128, 256))
SMOKE = Sizes("4", (0, 1), 4, 3, 48, 32, 2, 2, (2, 4, 8))


def main():
    options = _options()
    torch.set_num_threads(options.threads)
    network, sizes = (_tiny(), SMOKE) if options.smoke else (load("vgg16-hed"), FULL)
    sizes = replace(sizes, compared=sizes.compared[: options.channels], steps=options.steps or sizes.steps)
    document = {"network": network.name, "threads": options.threads, "sizes": asdict(sizes)}
    for name, measure in (("speed", speed), ("step", step_cost), ("linear", linearity)):
        if not options.only or name in options.only:
            document[name] = measure(network, sizes)
            print(json.dumps({name: document[name]}, indent=1))
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def _options():
    parser = argparse.ArgumentParser(prog="python -m bench.visualize", description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    parser.add_argument(
        "--only", action="append", choices=("speed", "step", "linear"), help="one part; repeat for more"
    )
    parser.add_argument("--channels", type=int, default=4, help="how many channels all tools make (1 to 4)")
    parser.add_argument("--steps", type=int, help="of every tool; Lucid's schedule has 512")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


# -- channels a minute ------------------------------------------------------------------------------------------


def speed(network, sizes):
    """Channels a minute and final activations of every tool, on the same channels with the same steps."""
    tools = {"cutaway": _ours, "plain loop": _plain, "torch-lucent": _lucent}
    found = {name: tool(network, sizes) for name, tool in tools.items()}
    ours, plain = found["cutaway"], found["plain loop"]
    ours["times_as_fast_as_plain"] = ours["channels_per_minute"] / plain["channels_per_minute"]
    both = zip(ours["activations"], plain["activations"])
    ours["activation_over_plain"] = [own / theirs if theirs else math.inf for own, theirs in both]
    return found


def _ours(network, sizes):
    others = [unit for unit in range(network.site(sizes.site).width) if unit not in sizes.compared]
    units = [*sizes.compared, *others[: sizes.units - len(sizes.compared)]]
    start = time.perf_counter()
    made = visualize(network, [f"{sizes.site}:{unit}" for unit in units], steps=sizes.steps)
    taken = time.perf_counter() - start
    images = [each.image[None] for each in made[: len(sizes.compared)]]
    return _row(network, sizes, images, taken, len(units))


def _plain(network, sizes):
    start = time.perf_counter()
    images = [plain_loop(network, sizes.site, unit, sizes.steps, sizes.plain_canvas) for unit in sizes.compared]
    return _row(network, sizes, images, time.perf_counter() - start, len(images))


def _lucent(network, sizes):
    try:
        from lucent.optvis import render
    except ImportError:
        return {"skipped": "torch-lucent is not installed"}

    class FromRgb(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network.module

        def forward(self, pixels):
            return self.inner(next(iter(network.prepare_rgb(pixels).inputs.values())))

    layer = "inner_" + network.site(sizes.site).module.replace(".", "_")
    options = {"thresholds": (sizes.steps,), "preprocess": False, "progress": False, "show_image": False}
    start = time.perf_counter()
    images = [render.render_vis(FromRgb().eval(), f"{layer}:{unit}", **options)[-1] for unit in sizes.compared]
    taken = time.perf_counter() - start
    return _row(network, sizes, [torch.from_numpy(each).permute(0, 3, 1, 2) for each in images], taken, len(images))


def _row(network, sizes, images, taken, count):
    best = [best_activations(network, sizes.site, image.float()) for image in images]
    activations = [float(found[0, unit]) for found, unit in zip(best, sizes.compared)]
    return {"channels_per_minute": 60 * count / taken, "seconds": taken, "channels": count, "activations": activations}


def plain_loop(network, site, unit, steps, side, seed=0):
    """One image [1 3 y x] with Lucid's schedule, as one would write it for one channel."""
    generator = torch.Generator().manual_seed(seed)
    frequency = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None])
    scale = side / frequency.clamp(min=1 / side)
    colours = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.0, -0.05], [0.27, -0.09, 0.03]])
    colours = colours / colours.norm(dim=0).max()
    theta = (0.01 * torch.randn(1, 3, *scale.shape, 2, generator=generator)).requires_grad_()
    seen = []
    handle = network.module.get_submodule(network.site(site).module).register_forward_hook(
        lambda _module, _args, output: seen.append(output)
    )

    def image():
        planes = torch.fft.irfft2(torch.view_as_complex(theta) * scale, s=(side, side)) / 4
        return torch.sigmoid(torch.einsum("rc,bcyx->bryx", colours, planes))

    adam = torch.optim.Adam([theta], lr=0.05)
    try:
        for _ in range(steps):
            seen.clear()
            batch = network.prepare_rgb(_moved(image(), generator))
            network.module(next(iter(batch.inputs.values())))
            adam.zero_grad()
            (-seen[0][:, unit].mean()).backward(inputs=[theta])
            adam.step()
    finally:
        handle.remove()
    return image().detach()


def _moved(pixels, generator):
    """Pad 12, jitter 8, scale 0.9 to 1.1, rotate by up to 10 degrees, jitter 4."""
    padded = functional.pad(pixels, (12, 12, 12, 12), value=0.5)
    jittered = _jitter(padded, 8, generator)
    scale = 0.9 + 0.02 * int(torch.randint(0, 11, (), generator=generator))
    scaled = functional.interpolate(jittered, scale_factor=scale, mode="bilinear", align_corners=False)
    angle = math.radians(int(torch.randint(-10, 11, (), generator=generator)))
    turn = torch.tensor([[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0]])
    grid = functional.affine_grid(turn[None], list(scaled.shape), align_corners=False)
    return _jitter(functional.grid_sample(scaled, grid, align_corners=False), 4, generator)


def _jitter(pixels, amount, generator):
    down, right = torch.randint(0, amount + 1, (2,), generator=generator).tolist()
    rows, columns = pixels.shape[-2] - amount, pixels.shape[-1] - amount
    return pixels[:, :, down : down + rows, right : right + columns]


# -- the cost of a step -----------------------------------------------------------------------------------------


def step_cost(network, sizes):
    """A step of ours against a bare forward and backward pass to the site, same batch, canvas and memory layout."""
    found = {}
    for name, last, redirected in (("plain", True, 0), ("redirected", True, 10**6), ("contiguous", False, 0)):
        effort = Effort(steps=2, channels_last=last, redirect_steps=redirected)
        found[name] = asdict(
            paired(_bare(network, sizes, last), _stepping(network, sizes, effort), rounds=sizes.rounds)
        )
    return found


def _stepping(network, sizes, effort):
    units = list(range(sizes.batch))
    image = fourier(ImageSpec((sizes.canvas, sizes.canvas), tuple(units)))
    objective, moved = channel(sizes.site, units), for_field(40)
    return lambda: optimize(network, objective, image, effort=effort, transforms=moved)


def _bare(network, sizes, channels_last):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    pixels = torch.rand(sizes.batch, 3, sizes.canvas, sizes.canvas).requires_grad_()

    def bare():
        for _ in range(2):
            batch = network.prepare_rgb(pixels.contiguous(memory_format=layout))
            acts = network.run(batch, capture=[sizes.site], stop_at=True, grad=True)[sizes.site]
            torch.autograd.grad(acts.mean(), pixels)

    return bare


def linearity(network, sizes):
    """Processor seconds for more and more channels of one site at two steps each."""
    found = {}
    for count in sizes.counts:
        start = time.process_time()  # what other programs take meanwhile does not count
        visualize(network, [f"{sizes.site}:{unit}" for unit in range(count)], steps=2, redirect_steps=0)
        taken = time.process_time() - start
        found[str(count)] = {"seconds": taken, "milliseconds_per_channel_and_step": 500 * taken / count}
    return found


def _tiny():
    torch.manual_seed(0)
    layers = [
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 3, padding=1),
    ]  # fmt: skip
    return wrap(torch.nn.Sequential(*layers), name="tiny", modality="image", example=torch.zeros(1, 3, 32, 32))


if __name__ == "__main__":
    sys.exit(main())
