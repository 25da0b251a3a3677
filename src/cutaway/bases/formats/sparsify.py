"""sparsify (EleutherAI): ``cfg.json`` and ``sae.safetensors``; every dictionary there is top-k.

``encoder.weight`` [latent d], ``encoder.bias``, ``W_dec`` [latent d], ``b_dec`` and, with ``skip_connection``,
``W_skip`` [d d]. An SAE subtracts ``b_dec`` from its input, one with ``transcode`` does not. ``num_latents`` 0 means
``d_in`` times ``expansion_factor``. The folder's name is the module whose output is meant (``layers.5.mlp``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes

from cutaway.bases.basis import Basis
from cutaway.bases.files import read_json, write_json, write_whole
from cutaway.bases.formats.checked import Wanted, count, flag, read_exactly, section, text
from cutaway.bases.formats.parts import Parts, about, parts_of, restored
from cutaway.bases.formats.places import from_module, unproven
from cutaway.errors import BadInput
from cutaway.networks.files.reading import bad_file

JSON, TENSORS = "cfg.json", "sae.safetensors"
#: Options that change what is computed and have no counterpart here.
_FOREIGN = ("signed", "embed_skip", "gram_lookup")


def read(folder: Path) -> Basis:
    """The dictionary of a folder, codes as sparsify computes them; raises ``BadFile``."""
    path = folder / JSON
    config = read_json(path)
    activation = text(path, config, "activation", "topk")
    foreign = [name for name in _FOREIGN if flag(path, config, name, False)]
    if activation != "topk" or foreign:
        found = f"uses {foreign[0]!r}" if foreign else f"uses the activation {activation[:40]!r}"
        raise bad_file(path, found, "give one that keeps the k largest, without a table beside it")
    d = count(path, config, "d_in")
    width = config.get("num_latents") or d * count(path, config, "expansion_factor", 32)
    width = count(path, {"num_latents": width}, "num_latents")
    skip, transcode = flag(path, config, "skip_connection", False), flag(path, config, "transcode", False)
    wanted = {"encoder.weight": Wanted((width, d)), "encoder.bias": Wanted((width,)), "W_dec": Wanted((width, d))}
    wanted |= {"b_dec": Wanted((d,))} | ({"W_skip": Wanted((d, d))} if skip else {})
    tensors = read_exactly(folder / TENSORS, wanted)
    sites = from_module(folder.name, transcode) or ("", "")
    parts = Parts(
        "topk",
        tensors["encoder.weight"],
        tensors["encoder.bias"],
        tensors["W_dec"],
        tensors["b_dec"],
        b_in=torch.zeros(d) if transcode else None,
        skip=tensors.get("W_skip"),
        k=count(path, config, "k", 32),
        name=folder.name,
        origin=unproven(_network(folder), *sites),
    )
    return restored(path, parts, section(path, config, "cutaway")).dictionary()


def write(basis: Basis, folder: Path) -> None:
    """Writes a top-k dictionary so that sparsify encodes as we do; ``BadInput`` for other kinds or two widths."""
    parts = parts_of(basis, "sparsify")
    width, d = parts.W_enc.shape
    if parts.kind != "topk" or parts.W_dec.shape[1] != d:
        what = f"{parts.kind} dictionary" if parts.kind != "topk" else "transcoder between two widths"
        raise BadInput(f"sparsify has no {what}; save it in cutaway's own format.")
    untied = parts.transcodes or (parts.b_in is not None and not bool(parts.b_in.any()))
    parts = parts.subtracting(torch.zeros(d) if untied else None)
    named = {"encoder.weight": parts.W_enc, "encoder.bias": parts.b_enc, "W_dec": parts.W_dec, "b_dec": parts.b_dec}
    named |= {} if parts.skip is None else {"W_skip": parts.skip}
    config: Mapping[str, Any] = {
        "activation": "topk", "expansion_factor": max(1, width // d), "normalize_decoder": True, "num_latents": width,
        "k": parts.k, "multi_topk": False, "skip_connection": parts.skip is not None, "transcode": untied, "d_in": d,
        "cutaway": about(parts),
    }  # fmt: skip
    write_whole(folder / TENSORS, to_bytes({name: value.float().contiguous() for name, value in named.items()}))
    write_json(folder / JSON, dict(config))


def _network(folder: Path) -> str:
    """The network's name, from the ``config.json`` of a whole run above, where there is one."""
    run = folder.parent / "config.json"
    return text(run, read_json(run), "model") if run.is_file() else ""
