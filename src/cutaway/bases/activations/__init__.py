"""Rows to train on: in memory, from cached shards, or straight from a network.

What enters: tensors, a folder of shards, or a network with stimuli. What leaves: a :class:`Source` of batches. What is
promised: the same seed gives the same batches, from any place on; padding, NaN and damaged shards never reach a batch.
"""

from cutaway.bases.activations.manifest import Manifest, Shard, read_manifest
from cutaway.bases.activations.shards import ShardSource, cache
from cutaway.bases.activations.source import Rows, Source, TensorSource
from cutaway.bases.activations.stream import StreamSource

__all__ = [
    "Manifest",
    "Rows",
    "Shard",
    "ShardSource",
    "Source",
    "StreamSource",
    "TensorSource",
    "cache",
    "read_manifest",
]
