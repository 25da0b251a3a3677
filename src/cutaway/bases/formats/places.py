"""Names of places in other libraries, where one of ours is the same tensor.

Places that depend on how a library rewrote the weights (``ln2.hook_normalized`` with or without the norm's weights) are
left out: whoever loads such a file names the site.
"""

from __future__ import annotations

import re

from cutaway.bases.basis import Origin

#: What TransformerLens, and with it SAELens, calls a place of a block.
_HOOKS = {
    "hook_resid_post": "resid",
    "hook_resid_mid": "resid_mid",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    "mlp.hook_in": "mlp_in",
    "mlp.hook_post": "mlp",
    "attn.hook_z": "attn.heads",
}
#: What dictionary_learning calls a submodule of a layer.
_SUBMODULES = {"resid_post": "resid", "attention_out": "attn_out", "mlp_out": "mlp_out"}
#: What sparsify calls the output of a module of a layer.
_MODULES = {"": "resid", ".mlp": "mlp_out", ".self_attn": "attn_out", ".attn": "attn_out", ".attention": "attn_out"}


def from_hook(hook: str) -> str | None:
    """``blocks.5.hook_mlp_out`` as a site; None where there is none that is surely the same."""
    if hook == "hook_embed":
        return "embed"
    found = re.fullmatch(r"blocks\.(\d{1,4})\.(.+)", hook)
    if not found:
        return None
    layer = int(found[1])
    if found[2] == "hook_resid_pre":
        return f"layers.{layer - 1}.resid" if layer else "embed"
    return f"layers.{layer}.{_HOOKS[found[2]]}" if found[2] in _HOOKS else None


def to_hook(site: str) -> str:
    """The inverse; a site without such a name keeps its own."""
    found = re.fullmatch(r"layers\.(\d+)\.(.+)", site)
    names = {ours: theirs for theirs, ours in _HOOKS.items()}
    if site == "embed" or not found or found[2] not in names:
        return "hook_embed" if site == "embed" else site
    return f"blocks.{found[1]}.{names[found[2]]}"


def from_submodule(name: str) -> str | None:
    """``resid_post_layer_5`` as a site."""
    found = re.fullmatch(r"(.+)_layer_(\d{1,4})", name)
    return f"layers.{found[2]}.{_SUBMODULES[found[1]]}" if found and found[1] in _SUBMODULES else None


def to_submodule(site: str) -> tuple[str, int]:
    """The inverse, with the layer (0 where the site names none); a site without such a name keeps its own."""
    found = re.fullmatch(r"layers\.(\d+)\.(.+)", site)
    names = {ours: theirs for theirs, ours in _SUBMODULES.items()}
    layer = int(found[1]) if found else 0
    return (f"{names[found[2]]}_layer_{layer}" if found and found[2] in names else site), layer


def from_module(folder: str, transcode: bool) -> tuple[str, str] | None:
    """The sites that a sparsify folder ``layers.5.mlp`` reads and writes."""
    if folder == "embed_tokens":
        return "embed", "embed"
    found = re.fullmatch(r"layers\.(\d{1,4})(\.\w+)?", folder)
    if not found or (found[2] or "") not in _MODULES:
        return None
    written = f"layers.{found[1]}.{_MODULES[found[2] or '']}"
    if not transcode:
        return written, written
    return (f"layers.{found[1]}.mlp_in", written) if found[2] == ".mlp" else None


def unproven(network: str, reads: str | None, writes: str | None) -> Origin | None:
    """An origin that a file names without a fingerprint; None if a site is unknown."""
    return Origin(network, "", reads, writes) if reads and writes else None
