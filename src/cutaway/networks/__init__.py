"""Load a trained network, name its sites, run, capture and edit it.

Enters: a zoo name, a path, a hub id or a module. Leaves: a :class:`Network` with named :class:`Site` objects and one
``run``. Promised: a pass-through capture changes no bit of the output; no hook outlives a run; weights are read as
data only; the parameters have one fingerprint.
"""

from cutaway.networks.edits import Ablate, Edit, Patch, Replace, Steer, edit_from_json
from cutaway.networks.load import load, wrap
from cutaway.networks.network import Batch, Network, Run
from cutaway.networks.sites import Address, Site, parse_address

__all__ = [
    "Ablate",
    "Address",
    "Batch",
    "Edit",
    "Network",
    "Patch",
    "Replace",
    "Run",
    "Site",
    "Steer",
    "edit_from_json",
    "load",
    "parse_address",
    "wrap",
]
