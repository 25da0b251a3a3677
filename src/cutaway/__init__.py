"""cutaway: a decompiler and audit workbench for trained neural networks.

    import cutaway
    net = cutaway.load("vgg16-hed")
    print(cutaway.feature(net, "conv3_3:81"))

The names below load what they need on first use, so that ``import cutaway`` stays light (no torch).
"""

import sys
from importlib import import_module
from types import ModuleType
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
    "feature": "cutaway.pipeline",
    "audit": "cutaway.pipeline",
    "write_report": "cutaway.report",
}

_ROOMS = (
    "networks",
    "stimuli",
    "evidence",
    "atlas",
    "observe",
    "features",
    "circuits",
    "structure",
    "audits",
    "report",
    "pipeline",
)

__all__ = [
    "Ablate",
    "Atlas",
    "Measurement",
    "Network",
    "Patch",
    "Replace",
    "Steer",
    "Verdict",
    "__version__",
    "audit",
    "feature",
    "load",
    "observe",
    "wrap",
    "write_report",
]

if TYPE_CHECKING:
    from cutaway.atlas import Atlas
    from cutaway.evidence import Measurement, Verdict
    from cutaway.networks import Ablate, Network, Patch, Replace, Steer, load, wrap
    from cutaway.pipeline import audit, feature, observe
    from cutaway.report import write_report


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"cutaway.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'cutaway' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)


class _Front(ModuleType):
    """The package itself; it makes the room ``observe`` callable, since the workflow has the same name.

    Importing a room binds it here as an attribute, which would hide the function ``cutaway.observe``.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "observe" and isinstance(value, ModuleType):
            value.__class__ = _CallableRoom
        super().__setattr__(name, value)


class _CallableRoom(ModuleType):
    """A room that can be called: ``cutaway.observe(network, stimuli)`` is ``cutaway.pipeline.observe``."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return import_module("cutaway.pipeline").observe(*arguments, **options)


sys.modules[__name__].__class__ = _Front
