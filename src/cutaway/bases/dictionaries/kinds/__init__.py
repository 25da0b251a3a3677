"""The built-in kinds, one file each; importing this registers them in :data:`~cutaway.bases.dictionaries.DICTIONARIES`.

What enters: a dictionary's parameters and a batch. What leaves: codes, or a :class:`~cutaway.bases.dictionaries.Pass`
with what is to be minimized. What is promised: kinds with a k decode, and give gradients to, active latents only.
"""

from cutaway.bases.dictionaries.kinds import batchtopk, gated, jumprelu, matryoshka, relu, topk

__all__ = ["batchtopk", "gated", "jumprelu", "matryoshka", "relu", "topk"]
