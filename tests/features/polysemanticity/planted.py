"""Networks whose units answer to one, two or three planted features, narrow or broad, often or seldom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cutaway.features.collect import collect
from cutaway.features.polysemanticity import Representation, elsewhere
from cutaway.networks import Network, wrap
from cutaway.stimuli import StimulusSet
from tests.features.planted import stimulus

WIDTH, FEATURES, BROAD = 24, 12, 4
NOISE = 0.04
MODES = {"one": 1, "two": 2, "three": 3, "80/20": 2, "arc": 1, "sheet": 1, "one and arc": 2}


class Planted(nn.Module):
    """Detectors of features (``detect``), units that sum some of them (``act``).

    A plain feature is a direction of the input. A broad one is a direction that turns: through a half circle (arc), or
    over a sheet; its detector is the length of what lies in its plane or space.
    """

    def __init__(self, frame: Tensor, wiring: Tensor) -> None:
        super().__init__()
        self.frame = nn.Parameter(frame)
        self.detect = nn.Identity()
        self.mix = nn.Linear(wiring.shape[1], wiring.shape[0], bias=False)
        self.mix.weight = nn.Parameter(wiring)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        along = x @ self.frame.T
        plain = torch.relu(along[:, :FEATURES])
        broad = along[:, FEATURES:].unflatten(1, (BROAD, 3)).norm(dim=2)
        return self.act(self.mix(self.detect(torch.cat([plain, broad], 1))))


@dataclass
class World:
    """A planted network, another network that looks at the same input, stimuli, and what each unit carries."""

    network: Network
    other: Network
    stimuli: StimulusSet
    truth: list[int]
    kinds: list[str]

    def measured(self) -> tuple:
        activity = collect(self.network, self.network.site("act"), range(len(self.truth)), self.stimuli, batch_size=512)
        return activity, self.represented(activity)

    def represented(self, activity) -> Representation:
        return elsewhere(self.network, activity, self.other, "see")


def world(seed: int = 0, each: int = 60, noise: float = NOISE) -> World:
    """Five units of every kind of :data:`MODES`; stimuli hold one feature each."""
    rng = np.random.default_rng(seed)
    dims = FEATURES + 3 * BROAD
    frame = np.linalg.qr(rng.normal(size=(dims, dims)))[0]
    inputs = np.concatenate(list(_inputs(rng, each))) @ frame
    inputs += noise * rng.normal(size=inputs.shape)
    wiring, kinds = _wiring(rng)
    torch.manual_seed(seed)
    network = wrap(
        Planted(_tensor(frame), _tensor(wiring)), name="planted", modality="tensor", example=torch.zeros(1, dims)
    )
    seeing = nn.Sequential()
    seeing.add_module("see", nn.Linear(dims, 32))
    seeing.add_module("bend", nn.Tanh())
    other = wrap(seeing, name="other", modality="tensor", example=torch.zeros(1, dims))
    order = rng.permutation(len(inputs))
    stimuli = StimulusSet("planted", [stimulus(_tensor(inputs[row]), f"stimulus {row}") for row in order])
    return World(network, other, stimuli, [MODES[kind] for kind in kinds], kinds)


def _inputs(rng: np.random.Generator, each: int):
    """Strengths of the features in coordinates of the frame: rows of one plain feature each, then broad ones."""
    for feature in range(FEATURES):
        # the last four are seldom: a quarter as often as the others
        rows = np.zeros((each if feature < FEATURES - 4 else each // 4, FEATURES + 3 * BROAD))
        rows[:, feature] = rng.uniform(0.6, 1.4, len(rows))
        yield rows
    for feature in range(BROAD):
        rows = np.zeros((each, FEATURES + 3 * BROAD))
        angle, tilt = rng.uniform(0, np.pi, each), rng.uniform(-0.6, 0.6, each) * (feature % 2)
        turned = np.stack([np.cos(angle) * np.cos(tilt), np.sin(angle) * np.cos(tilt), np.sin(tilt)], 1)
        rows[:, FEATURES + 3 * feature : FEATURES + 3 * feature + 3] = turned * rng.uniform(0.6, 1.4, (each, 1))
        yield rows


def _wiring(rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    often, seldom = np.arange(FEATURES - 4), np.arange(FEATURES - 4, FEATURES)
    arcs, sheets = FEATURES + np.arange(0, BROAD, 2), FEATURES + np.arange(1, BROAD, 2)
    choices = {
        "one": lambda: rng.choice(often, 1),
        "two": lambda: rng.choice(often, 2, replace=False),
        "three": lambda: rng.choice(often, 3, replace=False),
        "80/20": lambda: [rng.choice(often), rng.choice(seldom)],
        "arc": lambda: rng.choice(arcs, 1),
        "sheet": lambda: rng.choice(sheets, 1),
        "one and arc": lambda: [rng.choice(often), rng.choice(arcs)],
    }
    rows, kinds = [], []
    for kind, choose in choices.items():
        for _ in range(5):
            row = np.zeros(FEATURES + BROAD)
            row[choose()] = rng.uniform(0.85, 1.15, MODES[kind] if kind != "one and arc" else 2)
            rows.append(row)
            kinds.append(kind)
    return np.array(rows), kinds


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).float()
