"""The taxonomy names planted detectors, and its rules are what their table says."""

import numpy as np
import pytest
import torch
from torch import nn

import cutaway
from cutaway.features.taxonomy import (
    INCEPTIONV1,
    RULES,
    UNKNOWN,
    Battery,
    battery_for,
    label_units,
    observe_battery,
    taxonomy,
)

SIDE = 15


def gabor(phase: float, colour: tuple[float, float, float]) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    wave = np.exp(-(x**2 + y**2) / 2 / 3.0**2) * np.cos(2 * np.pi * x / 6.5 + phase)
    return (wave - wave.mean())[None] * np.array(colour)[:, None, None]


def blob(width: float) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    inner, outer = (np.exp(-(x**2 + y**2) / 2 / w**2) for w in (width, 2 * width))
    return np.repeat((inner / inner.sum() - outer / outer.sum())[None], 3, axis=0)


@pytest.fixture(scope="module")
def network() -> cutaway.Network:
    red_green, grey = (1.0, -1.0, 0.0), (1.0, 1.0, 1.0)
    kernels = [gabor(1.2, grey), gabor(1.2, red_green), np.ones((3, SIDE, SIDE)) * np.array([1, -1, 0])[:, None, None],
               blob(2.0)]  # fmt: skip
    conv = nn.Conv2d(3, 4, SIDE, stride=2, padding=SIDE // 2)
    with torch.no_grad():
        scaled = np.stack([kernel / np.abs(kernel).sum() for kernel in kernels])
        conv.weight.copy_(torch.tensor(scaled, dtype=torch.float32))
        conv.bias.zero_()
    return cutaway.wrap(nn.Sequential(conv, nn.ReLU()), example=torch.zeros(1, 3, 64, 64))


def test_planted_detectors_get_their_names(network) -> None:
    found = taxonomy(network, "1", nulls=1)
    assert [label.label for label in found.labels[:3]] == ["Gabor", "colour contrast", "colour"]
    assert found.labels[3].label in ("centre-surround", "texture"), "a blob is excited by a disk"
    assert all(label.confidence >= 0.1 for label in found.labels[:3])
    assert sum(found.counts.values()) == 4 and sum(found.null_counts.values()) == 4


def test_a_silent_network_is_unknown(network) -> None:
    conv = nn.Conv2d(3, 2, SIDE, stride=2, padding=SIDE // 2)
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias.zero_()
    silent = cutaway.wrap(nn.Sequential(conv, nn.ReLU()), example=torch.zeros(1, 3, 64, 64))
    labels = label_units(observe_battery(silent, "1", _view(network)))
    assert [(label.label, label.confidence) for label in labels] == [(UNKNOWN, 0.0)] * 2


def _view(network):
    from cutaway.features.tuning import view_of

    return view_of(network, "1")


def test_margins_by_hand() -> None:
    """Uniform fields excite by 8, everything else by 2: a colour unit with margin 1 - 2 / 8, and nothing is second."""
    shown = battery_for(32)
    sigma = {kind: np.full((1, len(drawn)), 2.0) for kind, drawn in shown.items()}
    sigma["fields"][0, 3] = 8.0
    (label,) = label_units(Battery(shown, sigma))
    assert label.label == "colour" and label.confidence == pytest.approx(0.75) and label.second == ""


def test_weak_answers_have_no_label() -> None:
    shown = battery_for(32)
    sigma = {kind: np.zeros((1, len(drawn))) for kind, drawn in shown.items()}
    sigma["fields"][0, 3] = 1.9
    assert label_units(Battery(shown, sigma))[0].label == UNKNOWN


def test_phase_invariance_by_hand() -> None:
    shown = battery_for(32)
    drawn = shown["gratings"]
    simple = np.maximum(np.cos(np.deg2rad(drawn.columns["phase_deg"])), 0) * (drawn.columns["orientation_deg"] == 0)
    complex_ = (drawn.columns["orientation_deg"] == 0).astype(float)
    sigma = {kind: np.zeros((2, len(part))) for kind, part in shown.items()} | {
        "gratings": np.stack([simple, complex_])
    }
    assert Battery(shown, sigma).phase_invariance().tolist() == [0, 1]


def test_simple_and_complex_cells_are_told_apart_by_phase() -> None:
    """Both answer to one orientation alone; only one of them cares where the bars are."""
    shown = battery_for(32)
    columns = shown["gratings"].columns
    upright = 6.0 * (columns["orientation_deg"] == 0) * (columns["chroma"] == 0)
    simple = upright * np.maximum(np.cos(np.deg2rad(columns["phase_deg"])), 0)
    sigma = {kind: np.zeros((2, len(part))) for kind, part in shown.items()} | {"gratings": np.stack([simple, upright])}
    labels = label_units(Battery(shown, sigma))
    assert [label.label for label in labels] == ["Gabor", "complex Gabor"]
    assert [label.second for label in labels] == ["", ""]


def test_published_families_are_known_labels() -> None:
    labels = {rule.label for rule in RULES} | {"low frequency"}
    for units, families in INCEPTIONV1.values():
        assert families.keys() <= labels and sum(families.values()) <= units
