"""Tuning: what it costs above the bare forward pass over the same drawings, for all units of a feature map.

    python -m bench.tuning            vgg16-hed, conv3_3: about a minute
    python -m bench.tuning --smoke    a random network: does it still run?

The base paints nothing: its pictures lie ready, and it runs the network to the site. Ours paints, runs, takes the
strongest answers around the middle and summarises all units.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from bench.timing import paired
from cutaway.features.tuning import NaturalScale, respond, summarise, view_of
from cutaway.features.tuning.responses import BATCH
from cutaway.networks import load, wrap
from cutaway.stimuli.drawings import curves


def cost(network, site, rounds, orientations):
    """The ratio, the number of drawings and the canvas."""
    view = view_of(network, site)
    drawn = curves(view.canvas.size, orientations=orientations).on(view.canvas)
    ready = [network.prepare_rgb(torch.from_numpy(np.ascontiguousarray(part))) for _, part in drawn.batches(BATCH)]
    width = network.site(site).width
    scale = NaturalScale(np.zeros(width), np.ones(width), 0)

    def bare():
        for batch in ready:
            network.run(batch, capture=[site], stop_at=True)

    def tuned():
        return summarise(drawn, scale.sigma(respond(network, site, drawn, view)))

    ratio = paired(bare, tuned, rounds=rounds)
    return {"site": site, "drawings": len(drawn), "canvas_px": view.canvas.size, **asdict(ratio)}


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.tuning", description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    document = cost(_tiny(), "3", 2, 2) if options.smoke else cost(load("vgg16-hed"), "conv3_3", 7, 4)
    print(json.dumps(document, indent=1))
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def _tiny():
    torch.manual_seed(0)
    layers = [
        torch.nn.Conv2d(3, 6, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(6, 8, 3, padding=1),
        torch.nn.ReLU(),
    ]
    return wrap(torch.nn.Sequential(*layers), example=torch.zeros(1, 3, 32, 32))


if __name__ == "__main__":
    raise SystemExit(main())
