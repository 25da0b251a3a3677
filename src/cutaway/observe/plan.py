"""What an observation is to do, and the identity that follows from it."""

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cutaway.atlas import ObservationRecord, Provenance
from cutaway.errors import BadInput
from cutaway.networks import Network
from cutaway.observe.reducers import Reducer
from cutaway.registry import REDUCERS
from cutaway.stimuli import StimulusSet

#: Changes when the same settings would give other results.
SCHEME = "observe-1"


@dataclass(frozen=True)
class Plan:
    """The sites to watch and the reducers (prototypes, by registered name) that watch each of them."""

    network: Network
    stimuli: StimulusSet
    layouts: dict[str, str]  # of each site
    reducers: dict[str, Reducer]
    seed: int

    @property
    def id(self) -> str:
        """A hash of everything that decides the result (64 hex digits); the size of batches does not."""
        identity = {
            "scheme": SCHEME,
            "network": self.network.fingerprint,
            "preprocess": describe(self.network.preprocess),
            "stimuli": self.stimuli.fingerprint,
            "sites": sorted(self.layouts),
            "reducers": self.settings,
            "seed": self.seed,
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """The settings of each reducer, by name."""
        return {name: reducer.settings() for name, reducer in sorted(self.reducers.items())}

    @property
    def provenance(self) -> Provenance:
        """Where every row of this observation comes from."""
        return Provenance(self.network.fingerprint, self.stimuli.fingerprint, self.seed)

    def record(self, batch_size: int) -> ObservationRecord:
        """The row that begins this observation."""
        return ObservationRecord(
            id=self.id,
            sites=sorted(self.layouts),
            settings=self.settings,
            batch_size=batch_size,
            batch_count=-(-len(self.stimuli) // batch_size),
            provenance=self.provenance,
        )


def plan(network: Network, stimuli: StimulusSet, sites: Iterable[str], reducers: Iterable[Any], seed: int) -> Plan:
    """Checks what was asked and names it."""
    layouts = {name: network.site(name).layout for name in sites}
    named = dict(_named(reducer, seed) for reducer in reducers)
    if not layouts or not named or not len(stimuli):
        found = f"{len(layouts)} sites, {len(named)} reducers and {len(stimuli)} stimuli"
        raise BadInput(f"An observation of {found} was asked for; give at least one of each.")
    return Plan(network, stimuli, layouts, named, seed)


def _named(reducer: str | Reducer, seed: int) -> tuple[str, Reducer]:
    if isinstance(reducer, str):
        kind = REDUCERS[reducer]
        takes_seed = "seed" in inspect.signature(kind).parameters
        return reducer, kind(seed=seed) if takes_seed else kind()
    for name, kind in REDUCERS.items():
        if type(reducer) is kind:
            return name, reducer
    raise BadInput(f"{type(reducer).__name__} is not a registered reducer; enter it with @REDUCERS.register(NAME).")


def describe(preprocess: Any) -> str:
    """A stable text for a preprocessing: that of a dataclass with its fields, else the name of its code."""
    if preprocess is None or dataclasses.is_dataclass(preprocess):
        return repr(preprocess)
    code = preprocess if hasattr(preprocess, "__qualname__") else type(preprocess)
    return f"{code.__module__}.{code.__qualname__}"
