"""Activations on the disk: written shard by shard by :func:`cache`, read back shuffled by :class:`ShardSource`.

A shard is a safetensors file of rows in half precision. It is finished when the manifest lists it with its SHA-256;
whatever was not finished when a process died is made again, what was is kept. The same call gives the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from cutaway.bases.activations.manifest import DTYPES, NAME, Manifest, Shard, read_manifest
from cutaway.bases.activations.order import shuffled
from cutaway.bases.activations.passes import Passes, Reading
from cutaway.bases.activations.source import Rows
from cutaway.bases.files import sha256_of, write_whole
from cutaway.errors import BadInput
from cutaway.networks.files.reading import bad_file, reading
from cutaway.networks.files.safetensors_file import checked_header
from cutaway.networks.network import Network

#: Called with the number of shards that are done and of all.
Progress = Callable[[int, int], None]
_TAGS = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}
_AGAIN = "run the same caching again: it makes the damaged shard anew and keeps the others"


def cache(
    network: Network,
    stimuli: Any,
    reads: str,
    writes: str | None = None,
    *,
    folder: str | Path,
    window: int | None = 128,
    skip: int = 0,
    per_image: int | None = None,
    batch: int = 8,
    shard_rows: int = 16_384,
    dtype: str = "float16",
    seed: int = 0,
    progress: Progress | None = None,
) -> ShardSource:
    """Runs ``stimuli`` through ``network`` and stores what lies at ``reads`` (and ``writes``) as rows in ``folder``.

    Passes stop at the deeper of the two sites. Texts are packed into windows of ``window`` tokens (None: each text
    by itself, padding left out), the first ``skip`` positions of which are left out; of pictures, every position is
    a row, or ``per_image`` drawn ones. ``dtype`` is float16, bfloat16 or float32; ``shard_rows`` about how many rows
    a file takes. A call that was interrupted goes on where it was, damaged shards are made again, and a folder that
    holds other activations is refused. Raises ``BadInput`` for activations that are NaN, infinite or too large for
    float16. ``progress(done, total)`` counts shards.
    """
    plan = Reading(reads, writes or reads, window, skip, per_image, batch, seed)
    passes, where = Passes(network, stimuli, plan), Path(folder)
    if dtype not in DTYPES or shard_rows < 1:
        raise BadInput(f"Shards of {shard_rows} rows in {dtype} were asked for; choose {', '.join(DTYPES)}.")
    try:
        where.mkdir(parents=True, exist_ok=True)
        with FileLock(where / ".lock", timeout=0):
            manifest, ready = _begun(passes, where, shard_rows, dtype)
            _fill(passes, where, manifest, ready, progress or (lambda done, total: None))
    except Timeout as error:
        raise BadInput(f"Another process is writing to {where}; wait for it, or name another folder.") from error
    except OSError as error:
        raise BadInput(f"{where} could not be written ({error.strerror or error}); name another folder.") from error
    return ShardSource(where)


class ShardSource:
    """The rows of a folder of shards, as a :class:`~cutaway.bases.activations.source.Source`.

    ``together`` shards are held in memory (in the type they are stored in) and mixed at a time; see
    :mod:`cutaway.bases.activations.order` for how good that shuffle is. Each shard is held against its hash once,
    when it is first opened: ``BadFile`` names the one that is damaged.
    """

    def __init__(self, folder: str | Path, *, together: int = 8) -> None:
        self.folder, self.together = Path(folder), together
        if together < 1:
            raise BadInput(f"{together} shards were to be mixed at a time; mix at least 1.")
        self.manifest = read_manifest(self.folder)
        if not self.manifest.complete:
            found = f"lists {len(self.manifest.shards)} of {self.manifest.planned} shards"
            raise bad_file(self.folder / NAME, found, "run the same caching again: it goes on where it was")
        if not self.manifest.rows:
            raise bad_file(self.folder / NAME, "lists no rows", "cache stimuli that can be used")
        self.shards = [shard for shard in self.manifest.shards if shard.rows]
        self._checked: set[int] = set()

    @property
    def d_in(self) -> int:
        """Width of what is read."""
        return self.manifest.d_in

    @property
    def d_out(self) -> int:
        """Width of what is written."""
        return self.manifest.d_out

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.manifest.rows

    @property
    def fingerprint(self) -> str:
        """A hash of the shards' hashes (64 hex digits)."""
        return hashlib.sha256("\n".join(shard.sha256 for shard in self.shards).encode()).hexdigest()

    def batches(self, size: int, *, seed: int = 0, start: int = 0) -> Iterator[Rows]:
        """Float32 batches without end; what is left at the end of an epoch and fills no batch is left out."""
        counts = [shard.rows for shard in self.shards]
        return shuffled(counts, self.rows, size, together=self.together, seed=seed, start=start)

    def rows(self, place: int) -> Rows:
        """The rows of one shard as they are stored, mapped from the file and not read before they are used."""
        shard, manifest = self.shards[place], self.manifest
        path = self.folder / shard.file
        if shard.number not in self._checked:
            check_shard(path, shard, manifest)
            self._checked.add(shard.number)
        with reading(path, "safetensors"), safe_open(path, framework="pt") as file:
            x = file.get_tensor("x")
            return x, x if manifest.same_site else file.get_tensor("y")


def check_shard(path: Path, shard: Shard, manifest: Manifest) -> None:
    """Raises ``BadFile`` unless the file is the one that the manifest lists."""
    fault = damage(path, shard)
    if fault:
        raise bad_file(path, fault, _AGAIN)
    with reading(path, "safetensors"):
        header = checked_header(path)
    wanted = {"x": [shard.rows, manifest.d_in]}
    wanted |= {} if manifest.same_site else {"y": [shard.rows, manifest.d_out]}
    found = {name: entry["shape"] for name, entry in header.items()}
    if found != wanted or {entry["dtype"] for entry in header.values()} != {_TAGS[manifest.dtype]}:
        raise bad_file(path, f"holds {found} where {wanted} in {manifest.dtype} was announced", _AGAIN)


def damage(path: Path, shard: Shard) -> str | None:
    """What is wrong with a shard's file, in words; None if its bytes have the hash that the manifest lists."""
    if not path.is_file():
        return "is missing"
    if path.stat().st_size != shard.bytes:
        return f"holds {path.stat().st_size} bytes and not {shard.bytes}"
    return None if sha256_of(path) == shard.sha256 else "is damaged: its bytes no longer have the hash in the manifest"


def _begun(passes: Passes, folder: Path, shard_rows: int, dtype: str) -> tuple[Manifest, dict[int, Rows]]:
    """The manifest to go on with: the folder's own, if it is of this caching, or a new one without shards.

    A new one needs the sizes of the first pass; its rows come back too, so that it is not run twice.
    """
    settings = passes.settings | {"dtype": dtype, "shard_rows": shard_rows}
    if (folder / NAME).exists():
        manifest = read_manifest(folder)
        other = [key for key, value in settings.items() if manifest.settings.get(key) != value and key != "network"]
        if other:
            raise BadInput(
                f"{folder} holds activations that were cached with another {other[0]}; name another folder, or "
                "delete this one."
            )
        return manifest, {}
    x, y = passes.run(0)
    if not len(x):
        raise BadInput("The first stimuli give no rows; give stimuli that the network can take.")
    each = max(1, round(shard_rows / len(x)))
    manifest = Manifest(settings, x.shape[1], y.shape[1], dtype, len(passes), each)
    manifest.write(folder)
    return manifest, {0: (x, y)}


def _fill(passes: Passes, folder: Path, manifest: Manifest, ready: dict[int, Rows], progress: Progress) -> None:
    """Makes every shard that is not there or damaged; ``ready`` are passes that were run already."""
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)
    listed = {shard.number: shard for shard in manifest.shards}
    for number in range(manifest.planned):
        shard = listed.get(number)
        if shard is None or damage(folder / shard.file, shard):
            manifest = _made(passes, folder, manifest, ready, number)
        progress(number + 1, manifest.planned)


def _made(passes: Passes, folder: Path, manifest: Manifest, ready: dict[int, Rows], number: int) -> Manifest:
    """Writes one shard, then the manifest that lists it."""
    first = number * manifest.passes_per_shard
    before = 0 if ready else len(passes.skipped)
    numbers = range(first, min(first + manifest.passes_per_shard, len(passes)))
    taken = [ready.pop(each) if each in ready else passes.run(each) for each in numbers]
    arrays = {"x": _stored([x for x, _ in taken], passes.reading.reads, manifest.dtype)}
    if not manifest.same_site:
        arrays["y"] = _stored([y for _, y in taken], passes.reading.writes, manifest.dtype)
    data = save(arrays)
    shard = Shard(number, len(arrays["x"]), len(data), hashlib.sha256(data).hexdigest())
    write_whole(folder / shard.file, data)
    known = {each.number for each in manifest.shards}
    lost = manifest.skipped + (0 if number in known else len(passes.skipped) - before)
    manifest = replace(manifest.with_shard(shard), skipped=lost)
    manifest.write(folder)
    return manifest


def _stored(parts: list[Tensor], site: str, dtype: str) -> Tensor:
    rows = torch.cat(parts).to(getattr(torch, dtype))
    if not bool(torch.isfinite(rows).all()):
        raise BadInput(f"Activations of {site} are too large for {dtype}; cache them with dtype='bfloat16'.")
    return rows
