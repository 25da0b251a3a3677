"""Rows to train on: in memory, from cached shards, or straight from a network.

What enters: tensors, a folder of shards, or a network with stimuli. What leaves: a :class:`Source` of batches. What is
promised: the same seed gives the same batches, from any place on.
"""

from cutaway.bases.activations.source import Rows, Source, TensorSource

__all__ = ["Rows", "Source", "TensorSource"]
