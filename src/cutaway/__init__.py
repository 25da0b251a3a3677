"""cutaway: a decompiler and audit workbench for trained neural networks.

    import cutaway
    net = cutaway.load("vgg16-hed")
    print(cutaway.feature(net, "conv3_3:81"))

The names below load what they need on first use, so that ``import cutaway`` stays light (no torch).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "load": "cutaway.networks",
    "wrap": "cutaway.networks",
    "Network": "cutaway.networks",
    "Ablate": "cutaway.networks",
    "Patch": "cutaway.networks",
    "Steer": "cutaway.networks",
    "Replace": "cutaway.networks",
    "Measurement": "cutaway.evidence",
    "Verdict": "cutaway.evidence",
    "Atlas": "cutaway.atlas",
    "observe": "cutaway.pipeline",
    "feature": "cutaway.pipeline",
    "audit": "cutaway.pipeline",
    "write_report": "cutaway.report",
}

__all__ = ["__version__", *sorted(_HOMES)]

if TYPE_CHECKING:
    from cutaway.atlas import Atlas
    from cutaway.evidence import Measurement, Verdict
    from cutaway.networks import Ablate, Network, Patch, Replace, Steer, load, wrap
    from cutaway.pipeline import audit, feature, observe
    from cutaway.report import write_report


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cutaway' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
