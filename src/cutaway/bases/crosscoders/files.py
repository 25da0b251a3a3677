"""Coders on disk: tensors as safetensors, everything else as JSON; what is read back is data, checked before use.

A record is ``STEM.json`` and the file of tensors that it names by their sha256, ``STEM-HASH.safetensors``. The JSON is
replaced in one move after the tensors are written, so that a kill at any moment leaves the old record or the new one.
Nothing is allocated from what the JSON claims: the shapes that its plan implies must be those of the tensors found.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from safetensors.torch import save as serialized
from torch import Tensor

from cutaway.bases.basis import Origin
from cutaway.bases.crosscoders.coder import Coder, Crosscoder, CrossLayerTranscoder
from cutaway.bases.crosscoders.plan import CROSSCODER, JUMPRELU, Plan
from cutaway.bases.files import read_json, sha256_of, write_json, write_whole
from cutaway.errors import BadFile, BadInput
from cutaway.networks.files import read_tensors

FORMAT, VERSION = "cutaway-coder", 1
CODER, CHECKPOINT = "coder", "checkpoint"
_HASH = re.compile(r"[0-9a-f]{64}")


def save_coder(coder: Coder, folder: str | Path) -> None:
    """Write a coder so that :func:`load_coder` gives it back, to the last bit."""
    about = {"name": coder.name, "plan": coder.plan.to_json(), "origins": [asdict(each) for each in coder.origins]}
    _write_record(Path(folder), CODER, dict(coder.state_dict()), about)


def load_coder(folder: str | Path) -> Coder:
    """The coder of a folder; raises ``BadFile`` for anything that is damaged, hostile or of another kind."""
    folder = Path(folder)
    found = _read_record(folder, CODER)
    if found is None:
        raise BadFile(f"{folder} holds no {CODER}.json; give a folder that save_coder wrote.")
    tensors, about = found
    try:
        plan = plan_from_json(about.get("plan"))
        name, origins = _text(about.get("name")), tuple(_origin(each) for each in about.get("origins", ()))
    except (BadInput, TypeError, ValueError) as error:
        raise BadFile(f"{folder / CODER}.json describes no coder ({error}); export it again.") from error
    _check_tensors(folder, plan, tensors)
    coder = (Crosscoder if plan.form == CROSSCODER else CrossLayerTranscoder)(plan, name=name, origins=origins)
    coder.load_state_dict(tensors)
    return coder.requires_grad_(False)


def plan_from_json(raw: Any) -> Plan:
    """A plan from plain values; raises ``BadInput`` for anything else than its fields, with their types."""
    names = {field.name for field in fields(Plan)}
    if not isinstance(raw, dict) or set(raw) != names:
        raise BadInput(f"a plan has the fields {', '.join(sorted(names))}")
    texts = [raw["form"], raw["selection"], *_sequence(raw["blocks"])]
    numbers = [raw["latents"], *_sequence(raw["reads"]), *_sequence(raw["writes"])]
    sizes = all(type(each) is int for each in numbers) and type(raw["k"]) in (int, float, type(None))
    if not all(isinstance(each, str) for each in texts) or not sizes:
        raise BadInput("a plan's names are texts and its sizes whole numbers")
    sequences = {key: tuple(raw[key]) for key in ("blocks", "reads", "writes")}
    return Plan(**{**raw, **sequences})


def expected_shapes(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a coder, without making one."""
    shapes: dict[str, tuple[int, ...]] = {}
    for place in range(plan.places):
        written = plan.written(place)
        shapes[f"W_enc.{place}"] = (plan.latents, plan.reads[place])
        shapes[f"W_dec.{place}"] = (plan.latents, written.stop - written.start)
        shapes[f"b_enc.{place}"] = (plan.latents,)
    shapes |= {"b_in": (sum(plan.reads),), "in_scale": (sum(plan.reads),)}
    shapes |= {"b_dec": (sum(plan.writes),), "out_scale": (sum(plan.writes),), "selection.threshold": ()}
    if plan.selection == JUMPRELU:
        shapes["selection.log_threshold"] = (plan.width,)
    return shapes


def write_checkpoint(folder: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write all that a run needs to go on."""
    _write_record(folder, CHECKPOINT, tensors, about)


def read_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What :func:`write_checkpoint` wrote; None where there is none, ``BadFile`` where it is damaged."""
    return _read_record(folder, CHECKPOINT)


def _write_record(folder: Path, stem: str, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    data = serialized({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()})
    digest = hashlib.sha256(data).hexdigest()
    own = _tensor_file(folder, stem, digest)
    write_whole(own, data)
    write_json(folder / f"{stem}.json", {"format": FORMAT, "version": VERSION, "tensors": digest, **about})
    for other in folder.glob(f"{stem}-*.safetensors"):
        if other != own:
            other.unlink(missing_ok=True)


def _read_record(folder: Path, stem: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    path = folder / f"{stem}.json"
    if not path.is_file():
        return None
    about = read_json(path)
    digest = about.get("tensors")
    if about.get("format") != FORMAT or about.get("version") != VERSION:
        raise BadFile(f"{path} is not of the format {FORMAT} {VERSION}; export it again.")
    if not isinstance(digest, str) or not _HASH.fullmatch(digest):
        raise BadFile(f"{path} does not name its tensors by a sha256; export it again.")
    own = _tensor_file(folder, stem, digest)
    if not own.is_file():
        raise BadFile(f"{path} names {own.name}, which is missing; copy it from where this folder comes from.")
    if sha256_of(own) != digest:
        raise BadFile(f"{own} is damaged: its bytes do not have the sha256 that it is named by; copy it again.")
    return read_tensors(own), about


def _tensor_file(folder: Path, stem: str, digest: str) -> Path:
    return folder / f"{stem}-{digest}.safetensors"


def _check_tensors(folder: Path, plan: Plan, tensors: dict[str, Tensor]) -> None:
    expected = expected_shapes(plan)
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        raise BadFile(
            f"The tensor {wrong[0]!r} in {folder} has the shape {found.get(wrong[0])}, and its description needs "
            f"{expected.get(wrong[0])}; export it again."
        )
    if not all(value.is_floating_point() and bool(value.isfinite().all()) for value in tensors.values()):
        raise BadFile(f"The tensors in {folder} are not all finite numbers; train it again.")


def _origin(raw: Any) -> Origin:
    kinds = {"seed": int}
    if not isinstance(raw, dict) or not all(type(value) is kinds.get(key, str) for key, value in raw.items()):
        raise BadInput("an origin holds texts and a seed")
    return Origin(**raw)


def _text(raw: Any) -> str:
    if not isinstance(raw, str):
        raise BadInput("a name is a text")
    return raw


def _sequence(raw: Any) -> list[Any]:
    if not isinstance(raw, list) or len(raw) > 4096:
        raise BadInput("names and widths are lists")
    return raw
