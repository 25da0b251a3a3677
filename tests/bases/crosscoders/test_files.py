"""Coders on disk: what is saved comes back, and nothing hostile gets in."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cutaway.bases import Origin
from cutaway.bases.crosscoders import Coder, Crosscoder, CrossLayerTranscoder, Plan, load_coder, save_coder
from cutaway.bases.crosscoders.files import expected_shapes
from cutaway.errors import BadFile

ORIGIN = Origin("net", "f" * 64, "layers.1.resid", "layers.1.resid", seed=3)
PLANS = {
    "crosscoder": Plan("crosscoder", ("a", "b"), (5,), (2, 3), 4, k=1.5),
    "clt": Plan("cross-layer-transcoder", ("0", "1", "2"), (2, 3, 2), (2, 2, 3), 4, "jumprelu"),
}


def coder_of(plan: Plan) -> Coder:
    kind = Crosscoder if plan.form == "crosscoder" else CrossLayerTranscoder
    coder = kind(plan, name="mine", origins=(ORIGIN,), seed=1)
    rng = torch.Generator().manual_seed(0)
    coder.start(torch.randn(50, sum(plan.reads), generator=rng), torch.randn(50, sum(plan.writes), generator=rng))
    return coder


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_what_is_saved_comes_back(plan: Plan, tmp_path: Path) -> None:
    coder = coder_of(plan)
    assert {name: tuple(value.shape) for name, value in coder.state_dict().items()} == expected_shapes(plan)
    for _ in range(2):  # a second save replaces the first and leaves nothing behind
        save_coder(coder, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    again = load_coder(tmp_path)
    assert (type(again), again.plan, again.name, again.origins) == (type(coder), plan, "mine", (ORIGIN,))
    for name, value in coder.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def changed(folder: Path, **entries: object) -> None:
    path = folder / "coder.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps({**about, **entries}))


def test_hostile_and_damaged_folders_are_one_sentence(tmp_path: Path) -> None:
    plan = PLANS["crosscoder"].to_json()
    huge = {**plan, "latents": 2**26}
    cases: list[tuple[dict[str, object], str]] = [
        ({"format": "other"}, "not of the format"),
        ({"tensors": "../../etc/passwd"}, "sha256"),
        ({"tensors": "0" * 64}, "missing"),
        ({"plan": huge}, "has the shape"),
        ({"plan": {**plan, "latents": "4"}}, "whole numbers"),
        ({"plan": {**plan, "latents": True}}, "whole numbers"),
        ({"plan": {**plan, "more": 1}}, "has the fields"),
        ({"plan": {**plan, "blocks": "ab"}}, "lists"),
        ({"plan": [1]}, "has the fields"),
        ({"origins": [{"network": 3}]}, "origin"),
        ({"origins": 3}, "describes no coder"),
        ({"name": 7}, "a name is a text"),
    ]
    for number, (entries, reason) in enumerate(cases):
        folder = tmp_path / str(number)
        save_coder(coder_of(PLANS["crosscoder"]), folder)
        changed(folder, **entries)
        with pytest.raises(BadFile, match=reason):
            load_coder(folder)


def test_damaged_bytes_nested_json_and_nothing(tmp_path: Path) -> None:
    save_coder(coder_of(PLANS["crosscoder"]), tmp_path)
    (tensors,) = tmp_path.glob("*.safetensors")
    data = bytearray(tensors.read_bytes())
    data[-1] ^= 1
    tensors.write_bytes(bytes(data))
    with pytest.raises(BadFile, match="damaged"):
        load_coder(tmp_path)
    (tmp_path / "coder.json").write_text("[" * 100_000)
    with pytest.raises(BadFile, match="JSON"):
        load_coder(tmp_path)
    with pytest.raises(BadFile, match=r"holds no coder\.json"):
        load_coder(tmp_path / "nowhere")


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    coder = coder_of(PLANS["crosscoder"])
    with torch.no_grad():
        coder.b_dec[0] = torch.nan
    save_coder(coder, tmp_path)
    with pytest.raises(BadFile, match="finite"):
        load_coder(tmp_path)
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")  # a stranger's file beside it is left alone
    save_coder(coder_of(PLANS["crosscoder"]), tmp_path)
    assert (tmp_path / "x.safetensors").is_file()
