"""SAELens (6.x, and what older ones wrote): ``cfg.json`` and ``sae_weights.safetensors``.

Checked against sae-lens 6.54.12. Its layout: ``W_enc`` [d_in latent], ``W_dec`` [latent d_out], ``b_enc``, ``b_dec``;
gated ones have ``b_gate``, ``b_mag`` and ``r_mag`` in place of ``b_enc``; jumprelu has ``threshold`` (checkpoints in
training one ``topk_threshold``), skip transcoders ``W_skip`` [d_out d_in]. Three fields of ``cfg.json`` change codes:

* ``apply_b_dec_to_input``: ``b_dec`` is subtracted before the encoder (never for transcoders).
* ``rescale_acts_by_decoder_norm``: top-k compares pre-activations times decoder norms; the norms are folded in here.
* ``normalize_activations``: inputs are rescaled outside of the weights, by a factor that the file does not hold or that
  differs from row to row. Such a dictionary is no function of the site alone and is refused.

BatchTopK and Matryoshka SAEs leave SAELens as ``jumprelu``; written by us they also say what they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from cutaway.bases.basis import Basis
from cutaway.bases.files import read_json, write_json, write_whole
from cutaway.bases.formats.checked import FLOATS, Wanted, count, flag, read_exactly, section, text
from cutaway.bases.formats.parts import THRESHOLDED, Parts, about, parts_of, restored
from cutaway.bases.formats.places import from_hook, to_hook, unproven
from cutaway.errors import BadInput
from cutaway.networks.files.reading import bad_file

JSON, TENSORS = "cfg.json", "sae_weights.safetensors"
#: Version of the layout of ``cfg.json`` that is written.
LAYOUT = "6.0.0"
_KINDS = {
    "standard": "relu", "gated": "gated", "topk": "topk", "jumprelu": "jumprelu", "batchtopk": "batchtopk",
    "matryoshka_batchtopk": "matryoshka", "transcoder": "relu", "skip_transcoder": "relu",
    "jumprelu_transcoder": "jumprelu", "jumprelu_skip_transcoder": "jumprelu",
}  # fmt: skip
_TRAINING = ("batchtopk", "matryoshka_batchtopk")
Config = Mapping[str, Any]


def read(folder: Path) -> Basis:
    """The dictionary of a folder, codes as SAELens computes them; raises ``BadFile``."""
    path = folder / JSON
    config = _modern(read_json(path))
    architecture = text(path, config, "architecture", "standard")
    if architecture not in _KINDS:
        do = f"convert it to one of {', '.join(_KINDS)}"
        raise bad_file(path, f"describes the architecture {architecture[:40]!r}", do)
    _check_normalization(path, config)
    sizes = count(path, config, "d_in"), count(path, config, "d_sae")
    d_out = count(path, config, "d_out") if "transcoder" in architecture else sizes[0]
    tensors = read_exactly(folder / TENSORS, _wanted(architecture, *sizes, d_out))
    _check_scaling(folder / TENSORS, tensors)
    parts = _parts(path, config, architecture, {name: value.float() for name, value in tensors.items()})
    metadata = section(path, config, "metadata")
    return restored(
        path, replace(parts, **_said(path, metadata, folder)), section(path, metadata, "cutaway")
    ).dictionary()


def write(basis: Basis, folder: Path) -> None:
    """Writes a dictionary so that SAELens encodes as we do; ``BadInput`` for a kind that it has not."""
    parts = parts_of(basis, "SAELens")
    architecture = _architecture(parts)
    if parts.b_in is not None and (parts.transcodes or bool(parts.b_in.any())):
        parts = parts.subtracting(torch.zeros_like(parts.b_in))
    elif parts.transcodes:
        parts = parts.subtracting(torch.zeros(parts.W_enc.shape[1]))
    tensors = {"W_enc": parts.W_enc.T, "W_dec": parts.W_dec, "b_dec": parts.b_dec} | _own_tensors(parts)
    data = to_bytes({name: value.float().contiguous() for name, value in tensors.items()})
    config: dict[str, Any] = {
        "architecture": architecture, "d_in": parts.W_enc.shape[1], "d_sae": parts.W_enc.shape[0], "dtype": "float32",
        "device": "cpu", "apply_b_dec_to_input": parts.b_in is None, "normalize_activations": "none",
        "reshape_activations": "none", "metadata": _metadata(parts),
    }  # fmt: skip
    config |= {"d_out": parts.W_dec.shape[1]} if parts.transcodes else {}
    config |= {"k": parts.k, "rescale_acts_by_decoder_norm": False} if parts.kind == "topk" else {}
    write_whole(folder / TENSORS, data)
    write_json(folder / JSON, config)


# -- reading ---------------------------------------------------------------------------------------------------


def _modern(config: dict[str, Any]) -> dict[str, Any]:
    """Fields as version 6 names them: before, all lay in one object, and top-k was an activation function."""
    if "metadata" in config:
        return config
    old = dict(config)
    activation = old.get("activation_fn_str", old.get("activation_fn"))
    if activation == "topk":
        kwargs = old.get("activation_fn_kwargs")
        old |= {"architecture": "topk", "k": kwargs.get("k") if isinstance(kwargs, Mapping) else None}
    hook = old.get("hook_name", old.get("hook_point"))
    return old | {"metadata": {"model_name": old.get("model_name"), "hook_name": hook}}


def _check_normalization(path: Path, config: Config) -> None:
    said = config.get("normalize_activations")
    if said not in (None, False, "none"):
        do = "fold the factor into its weights in SAELens (fold_activation_norm_scaling_factor) and save it again"
        if said != "expected_average_only_in" and said is not True:
            do = "take a dictionary that reads activations as they are"
        raise bad_file(path, f"rescales activations before the encoder (normalize_activations {str(said)[:40]!r})", do)


def _wanted(architecture: str, d_in: int, width: int, d_out: int) -> dict[str, Wanted]:
    wanted = {"W_enc": Wanted((d_in, width)), "W_dec": Wanted((width, d_out)), "b_dec": Wanted((d_out,))}
    wanted["scaling_factor"] = Wanted((width,), optional=True)  # versions before 4 wrote ones
    vector = Wanted((width,))
    if architecture == "gated":
        return wanted | {"b_gate": vector, "b_mag": vector, "r_mag": vector}
    wanted["b_enc"] = vector
    if architecture in _TRAINING:
        wanted["topk_threshold"] = Wanted((), FLOATS)
    elif architecture.startswith("jumprelu"):
        wanted["threshold"] = vector
    return wanted | ({"W_skip": Wanted((d_out, d_in))} if "skip" in architecture else {})


def _check_scaling(path: Path, tensors: dict[str, Tensor]) -> None:
    scaling = tensors.pop("scaling_factor", None)
    if scaling is not None and not torch.allclose(scaling.float(), torch.ones(len(scaling))):
        raise bad_file(path, "holds a scaling_factor of its own", "fold it into W_dec in SAELens and save it again")


def _parts(path: Path, config: Config, architecture: str, tensors: dict[str, Tensor]) -> Parts:
    kind, transcodes = _KINDS[architecture], "transcoder" in architecture
    applied = flag(path, config, "apply_b_dec_to_input", not transcodes)
    if applied and transcodes:
        raise bad_file(path, "subtracts the output's bias from the input of a transcoder")
    d_in = tensors["W_enc"].shape[0]
    parts = Parts(
        kind,
        W_enc=tensors["W_enc"].T,
        b_enc=tensors["b_mag" if kind == "gated" else "b_enc"],
        W_dec=tensors["W_dec"],
        b_dec=tensors["b_dec"],
        b_in=None if applied else torch.zeros(d_in),
        skip=tensors.get("W_skip"),
        threshold=_threshold(tensors),
        gate_bias=tensors.get("b_gate"),
        gate_scale=tensors.get("r_mag"),
        k=_k(path, config) if kind in ("topk", "batchtopk", "matryoshka") else None,
    )
    rescaled = kind in ("topk", "batchtopk", "matryoshka")
    rescaled = rescaled and flag(path, config, "rescale_acts_by_decoder_norm", architecture in _TRAINING)
    return parts.with_unit_choice() if rescaled else parts


def _threshold(tensors: dict[str, Tensor]) -> Tensor | None:
    if "topk_threshold" in tensors:
        return tensors["topk_threshold"].expand(tensors["W_enc"].shape[1]).clone()
    return tensors.get("threshold")


def _k(path: Path, config: Config) -> int:
    """The number of active latents; BatchTopK may have trained for a fraction, which is rounded."""
    value = config.get("k")
    if type(value) is float and value >= 0.5 and value < 2**31:
        return round(value)
    return count(path, config, "k")


def _said(path: Path, metadata: Config, folder: Path) -> dict[str, Any]:
    network, hook = text(path, metadata, "model_name"), text(path, metadata, "hook_name")
    written = text(path, metadata, "hook_name_out", hook)
    return {"name": folder.name, "origin": unproven(network, from_hook(hook), from_hook(written))}


# -- writing ---------------------------------------------------------------------------------------------------


def _architecture(parts: Parts) -> str:
    thresholded = parts.kind in THRESHOLDED
    if not parts.transcodes and (parts.kind in ("gated", "topk") or thresholded or parts.kind == "relu"):
        return {"relu": "standard", "gated": "gated", "topk": "topk"}.get(parts.kind, "jumprelu")
    if not (thresholded or parts.kind == "relu"):
        what = "transcoder" if parts.transcodes else "dictionary"
        raise BadInput(f"SAELens has no {parts.kind} {what}; save it in cutaway's own format.")
    return ("jumprelu_" if thresholded else "") + ("skip_" if parts.skip is not None else "") + "transcoder"


def _own_tensors(parts: Parts) -> dict[str, Tensor]:
    if parts.gate_bias is not None and parts.gate_scale is not None:
        return {"b_gate": parts.gate_bias, "b_mag": parts.b_enc, "r_mag": parts.gate_scale}
    rest = {"threshold": parts.threshold, "W_skip": parts.skip}
    return {"b_enc": parts.b_enc} | {name: value for name, value in rest.items() if value is not None}


def _metadata(parts: Parts) -> dict[str, Any]:
    said: dict[str, Any] = {"sae_lens_version": LAYOUT, "sae_lens_training_version": None, "cutaway": about(parts)}
    if parts.origin is not None:
        said |= {"model_name": parts.origin.network, "hook_name": to_hook(parts.origin.reads)}
        said |= {"hook_name_out": to_hook(parts.origin.writes)} if parts.origin.replaces else {}
    return said
