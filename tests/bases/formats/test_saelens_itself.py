"""Against SAELens itself, in an environment of its own: ``CUTAWAY_SAELENS_PYTHON`` names its interpreter."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

from cutaway.bases.formats import load, save
from tests.bases.formats.kinds import ACROSS, KINDS, OUT, D, acts, dictionary

READ = """
import sys, torch
from sae_lens import SAE
root, rows, count = sys.argv[1:]
x = torch.load(rows)
for place in range(int(count)):
    sae = SAE.load_from_disk(f"{root}/{place}")
    torch.save({"codes": sae.encode(x).detach(), "out": sae(x).detach()}, f"{root}/{place}.pt")
"""
WRITE = """
import json, sys, torch
from sae_lens.registry import get_sae_class, get_sae_training_class
torch.manual_seed(0)
root, rows = sys.argv[1:]
x = torch.load(rows)
def randomize(sae):
    for name, part in sae.named_parameters():
        part.data = torch.randn(part.shape) * (0.3 if name == "r_mag" else 1)
        if name == "threshold":
            part.data.abs_()
def store(name, sae):
    sae.save_model(f"{root}/{name}")
    torch.save({"codes": sae.encode(x).detach(), "out": sae(x).detach()}, f"{root}/{name}/seen.pt")
D, W, OUT = 6, 10, 4
for architecture in ("standard", "gated", "topk", "jumprelu"):
    for applied in (True, False):
        for rescaled in ((False, True) if architecture == "topk" else (False,)):
            cls, cfg = get_sae_class(architecture)
            more = {"k": 3, "rescale_acts_by_decoder_norm": rescaled} if architecture == "topk" else {}
            sae = cls(cfg(d_in=D, d_sae=W, apply_b_dec_to_input=applied, **more))
            randomize(sae)
            store(f"{architecture}-{applied}-{rescaled}", sae)
for architecture in ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder"):
    cls, cfg = get_sae_class(architecture)
    sae = cls(cfg(d_in=D, d_sae=W, d_out=OUT, apply_b_dec_to_input=False))
    randomize(sae)
    store(architecture, sae)
for architecture in ("batchtopk", "matryoshka_batchtopk"):
    cls, cfg = get_sae_training_class(architecture)
    more = {"matryoshka_widths": [4, W]} if architecture.startswith("mat") else {}
    sae = cls(cfg(d_in=D, d_sae=W, k=3, **more))
    randomize(sae)
    sae.topk_threshold = torch.tensor(0.9, dtype=torch.float64)
    sae.save_inference_model(f"{root}/{architecture}-exported")
    sae.save_model(f"{root}/{architecture}-checkpoint")
    from sae_lens import SAE
    done = SAE.load_from_disk(f"{root}/{architecture}-exported")
    for kind in ("exported", "checkpoint"):
        torch.save({"codes": done.encode(x).detach(), "out": done(x).detach()}, f"{root}/{architecture}-{kind}/seen.pt")
"""


@pytest.fixture(scope="module")
def python() -> str:
    found = os.environ.get("CUTAWAY_SAELENS_PYTHON")
    if not found:
        pytest.skip("CUTAWAY_SAELENS_PYTHON names no interpreter that has SAELens")
    return found


def run(python: str, script: str, *arguments: Path | int) -> None:
    command = [python, "-W", "ignore", "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_what_we_write_encodes_there_as_here(python: str, tmp_path: Path) -> None:
    torch.save(acts(), tmp_path / "rows.pt")
    bases = [dictionary(kind, untied=untied) for kind in KINDS for untied in (False, True)]
    bases += [dictionary(kind, d_out=OUT, skip=skip, origin=ACROSS) for kind in ("relu", "jumprelu")
              for skip in (False, True)]  # fmt: skip
    for place, basis in enumerate(bases):
        save(basis, tmp_path / str(place), format="saelens")
    run(python, READ, tmp_path, tmp_path / "rows.pt", len(bases))
    for place, basis in enumerate(bases):
        seen = torch.load(tmp_path / f"{place}.pt")
        assert torch.allclose(seen["codes"], basis.encode(acts()), atol=5e-6), basis
        assert torch.allclose(seen["out"], basis.reconstruct(acts()), atol=2e-5), basis


def test_what_it_writes_encodes_here_as_there(python: str, tmp_path: Path) -> None:
    torch.save(acts(), tmp_path / "rows.pt")
    run(python, WRITE, tmp_path, tmp_path / "rows.pt")
    folders = sorted(path.parent for path in tmp_path.glob("*/cfg.json"))
    assert len(folders) == 10 + 4 + 4
    for folder in folders:
        seen, found = torch.load(folder / "seen.pt"), load(folder)
        assert json.loads((folder / "cfg.json").read_text())["d_in"] == D
        assert torch.allclose(found.encode(acts()), seen["codes"], atol=5e-6), folder.name
        assert torch.allclose(found.reconstruct(acts()), seen["out"], atol=2e-5), folder.name
