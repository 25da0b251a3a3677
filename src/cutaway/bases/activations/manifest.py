"""What a folder of shards says of itself: ``manifest.json``.

    {"format": "cutaway-activations", "version": 1, "made_by": "cutaway 0.1.0",
     "settings": {network, network_fingerprint, stimuli_fingerprint, reads, writes, window, skip, ..., seed},
     "d_in": 576, "d_out": 576, "dtype": "float16", "passes": 40, "passes_per_shard": 16, "skipped": 0,
     "shards": [{"number": 0, "rows": 16384, "bytes": 18874528, "sha256": "..."}, ...]}

``shards`` lists what is finished; shard ``n`` holds the rows of the passes from ``n * passes_per_shard`` on, and lies
in ``shard-0000n.safetensors`` as ``x`` [row d_in] and, where another site is written, ``y`` [row d_out].
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cutaway
from cutaway.bases.files import read_json, write_json
from cutaway.networks.files.reading import bad_file

NAME = "manifest.json"
FORMAT = "cutaway-activations"
VERSION = 1
#: The types that rows are stored in, as safetensors and torch name them.
DTYPES = ("float16", "bfloat16", "float32")


@dataclass(frozen=True)
class Shard:
    """One finished file: its number, its rows, its size and what its bytes hash to."""

    number: int
    rows: int
    bytes: int
    sha256: str

    @property
    def file(self) -> str:
        """Its name in the folder."""
        return f"shard-{self.number:05d}.safetensors"


@dataclass(frozen=True)
class Manifest:
    """A folder of shards; see the module for the fields."""

    settings: dict[str, Any]
    d_in: int
    d_out: int
    dtype: str
    passes: int
    passes_per_shard: int
    shards: tuple[Shard, ...] = ()
    skipped: int = 0

    @property
    def planned(self) -> int:
        """Number of shards when all are finished."""
        return -(-self.passes // self.passes_per_shard)

    @property
    def complete(self) -> bool:
        """True when every pass is in a shard."""
        return len(self.shards) == self.planned

    @property
    def rows(self) -> int:
        """Rows of all finished shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def same_site(self) -> bool:
        """True if what is read is what is to be written: the shards hold ``x`` only."""
        return self.settings.get("reads") == self.settings.get("writes")

    def with_shard(self, shard: Shard) -> Manifest:
        """The same with one more finished shard, or with another one of its number."""
        others = [each for each in self.shards if each.number != shard.number]
        return replace(self, shards=tuple(sorted([*others, shard], key=lambda each: each.number)))

    def write(self, folder: Path) -> None:
        """Writes ``manifest.json``, whole."""
        head = {"format": FORMAT, "version": VERSION, "made_by": f"cutaway {cutaway.__version__}"}
        write_json(folder / NAME, head | asdict(self))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder; raises ``BadFile`` for one that is absent, damaged or of another version."""
    path = folder / NAME
    content = read_json(path)
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        found = f"is of format {str(content.get('format'))[:40]!r}, version {str(content.get('version'))[:10]!r}"
        raise bad_file(path, found, f"give a folder that cutaway cached ({FORMAT}, version {VERSION})")
    try:
        shards = tuple(_shard(each) for each in content["shards"])
        sizes = {name: _count(content[name]) for name in ("d_in", "d_out", "passes", "passes_per_shard")}
        skipped, dtype, settings = _count(content["skipped"], 0), content["dtype"], dict(content["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise bad_file(path, f"does not describe shards ({error})", "cache the activations again") from error
    numbers = [shard.number for shard in shards]
    made = Manifest(settings, **sizes, dtype=dtype, shards=shards, skipped=skipped)
    if dtype not in DTYPES or numbers != sorted(set(numbers)) or (numbers and numbers[-1] >= made.planned):
        raise bad_file(path, "lists shards or a type that cannot be", "cache the activations again")
    return made


def _shard(entry: Any) -> Shard:
    sha256 = entry["sha256"]
    if not isinstance(sha256, str) or len(sha256) != 64:
        raise ValueError("a shard without a sha256")
    return Shard(_count(entry["number"], 0), _count(entry["rows"], 0), _count(entry["bytes"], 0), sha256)


def _count(value: Any, least: int = 1) -> int:
    if type(value) is not int or not least <= value < 2**48:
        raise ValueError(f"{str(value)[:20]!r} is no count")
    return value
