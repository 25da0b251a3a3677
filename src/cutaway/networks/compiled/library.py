"""Networks with a known algorithm, by name: compiled programs, trained small networks, folders with a truth.

:func:`ground_truth` is the one table from which tests of circuit discovery draw.
"""

import copy
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cutaway.errors import UnknownName
from cutaway.networks.compiled.folder import from_folder, is_compiled
from cutaway.networks.compiled.programs import PROGRAMS, compiled
from cutaway.networks.compiled.truth import TRUTH, Truth, read_truth
from cutaway.networks.network import Network

TRAINED = ("induction-lm", "modular-addition", "forced-induction")
"""The trained networks that ship with the package."""

CHECKPOINTS = Path(__file__).parent / "checkpoints"


@dataclass(frozen=True, eq=False)
class Known:
    """One row of the table.

    ``kind``: ``compiled`` (weights made from a program; the truth is a fact about weights), ``forced`` (trained to have
    this circuit and no other; the truth is what training enforced), ``given`` (a folder from elsewhere with its own
    ``truth.json``), ``trained`` (the task is known, the circuit is not: ``truth`` is None).
    """

    name: str
    network: Network
    truth: Truth | None
    kind: str

    def __iter__(self) -> Iterator[object]:
        """Unpacks as ``name, network, truth, kind``."""
        return iter((self.name, self.network, self.truth, self.kind))


def named(name: str) -> Network:
    """A compiled program or a trained network by its name, as ``cutaway.load("compiled:NAME")`` gives it.

    Every call gives a module of its own, so that edits of weights stay with the caller.
    """
    if name in TRAINED:
        return trained(name)
    if name not in PROGRAMS:
        raise UnknownName("compiled network", name, [*PROGRAMS, *TRAINED], "See docs/compiled.md.")
    shared = compiled(name).network
    return dataclasses.replace(shared, module=copy.deepcopy(shared.module), _cache={})


def trained(name: str) -> Network:
    """A trained network that ships with the package: ``induction-lm``, ``modular-addition``, ``forced-induction``."""
    if name not in TRAINED:
        raise UnknownName("trained network", name, TRAINED)
    return from_folder(CHECKPOINTS / name, name=name, source=f"compiled:{name}")


def ground_truth(given: str | Path | None = None) -> tuple[Known, ...]:
    """Every network with a known algorithm; with ``given``, also the compiled folders inside that folder.

    Programs are compiled once per process and shared: do not change their weights.
    """
    rows = [Known(name, compiled(name).network, compiled(name).truth, "compiled") for name in PROGRAMS]
    for name in TRAINED:
        folder = CHECKPOINTS / name
        has_truth = (folder / TRUTH).is_file()
        truth = read_truth(folder) if has_truth else None
        rows.append(Known(name, trained(name), truth, "forced" if has_truth else "trained"))
    if given is not None:
        folders = sorted(folder for folder in Path(given).iterdir() if is_compiled(folder))
        rows += [Known(folder.name, from_folder(folder), read_truth(folder), "given") for folder in folders]
    return tuple(rows)
