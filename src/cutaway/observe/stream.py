"""Observing: stimuli in, shards of reduced activations out, results at the end.

1. The stimuli are cut into numbered batches. Each batch is run, reduced, and stored as one shard (one file, one row).
2. Sixteen neighbouring shards become one, sixteen of those again, so that few files exist at any time.
3. When every batch is covered, what is left is merged into one result for each site and reducer.

Everything is kept in the atlas and nothing in the process, so the same call goes on where any other one stopped.
"""

import logging
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cutaway.atlas import Atlas, ObservationRecord, ResultRecord, ShardRecord, StimulusRecord, StimulusSetRecord
from cutaway.errors import BadInput, DamagedArray
from cutaway.networks import Network
from cutaway.observe.observation import Observation, observation_of, restored_result
from cutaway.observe.plan import Plan, plan
from cutaway.observe.positions import as_positions
from cutaway.observe.reducers import Reducer
from cutaway.observe.shards import Damaged, Pair, combined, full_group, merged, to_arrays
from cutaway.stimuli import StimulusSet

#: The reducers that observe what every card needs.
DEFAULT = ("moments", "quantiles", "firing", "top", "intervals")
#: Called with the number of stimuli that are done and the number of all.
Progress = Callable[[int, int], None]

_log = logging.getLogger(__name__)
_ROWS = 1000


def observe(
    network: Network,
    stimuli: StimulusSet,
    *,
    sites: Iterable[str],
    atlas: Atlas,
    reducers: Iterable[str | Reducer] = DEFAULT,
    batch_size: int = 8,
    seed: int = 0,
    progress: Progress | None = None,
) -> Observation:
    """What the units of ``sites`` do on ``stimuli``, reduced and kept in ``atlas``.

    Forward passes stop after the last site. ``reducers`` are registered names or instances with settings. A repeated
    call returns the stored observation; an interrupted one goes on. ``progress(done, total)`` is called with numbers
    of stimuli after every batch. Stimuli that cannot be loaded are skipped, logged and counted; an activation that
    is NaN or infinite raises :class:`BadInput` and names its site and stimulus.
    """
    if batch_size < 1:
        raise BadInput(f"Batches of {batch_size} stimuli were asked for; give a size of at least 1.")
    planned = plan(network, stimuli, sites, reducers, seed)
    atlas.bind(network.name, network.fingerprint)
    record = atlas.observations.begin(planned.record(batch_size))
    if not record.seen:
        _register(atlas, planned)
    return _Work(planned, record, atlas, batch_size, progress).done()


def _register(atlas: Atlas, planned: Plan) -> None:
    """Enters the stimuli in the atlas, so that an id leads to its source."""
    stimuli, provenance = planned.stimuli, planned.provenance
    key = stimuli.fingerprint
    counted = StimulusSetRecord(key, stimuli.name, len(stimuli), len(stimuli.skipped), provenance)
    for start in range(0, len(stimuli), _ROWS):
        rows = [
            StimulusRecord(key, each.id, start + offset, each.kind, str(each.source), provenance)
            for offset, each in enumerate(stimuli[start : start + _ROWS])
        ]
        atlas.stimuli.put(counted, rows)


class _Work:
    """One process's share of an observation."""

    def __init__(
        self, planned: Plan, record: ObservationRecord, atlas: Atlas, batch_size: int, progress: Progress | None
    ) -> None:
        self.plan, self.record, self.atlas = planned, record, atlas
        self.log = atlas.observations
        # Shards are always of the size with which the observation began; passes may be smaller.
        self.pass_size = min(batch_size, record.batch_size)
        self.progress = progress or (lambda done, total: None)
        self.owner = uuid.uuid4().hex
        self.batches_run = 0
        self.recomputed: list[str] = []
        self.reasons: list[str] = []  # why stimuli were skipped

    def done(self) -> Observation:
        """Does what is missing and returns the finished observation."""
        self._reopen_damaged()
        self.wanted = self._wanted()
        while self._status().status != "done":
            self._fill()
            self._compact()
            self._finish()
        self.progress(len(self.plan.stimuli), len(self.plan.stimuli))
        now = {"batches_run": self.batches_run, "recomputed": tuple(self.recomputed)}
        return observation_of(self.atlas, self._status(), **now)

    def _status(self) -> ObservationRecord:
        return self.log.get(self.record.id) or self.record

    def _wanted(self) -> dict[Pair, Reducer]:
        """The sites and reducers without a result: all of them, or those whose results were damaged."""
        there = {(result.site, result.reducer) for result in self.log.results(self.record.id)}
        pairs = {(s, name): reducer for s in self.plan.layouts for name, reducer in self.plan.reducers.items()}
        return {pair: reducer for pair, reducer in pairs.items() if pair not in there}

    # -- damage ------------------------------------------------------------------------------------------------

    def _reopen_damaged(self) -> None:
        damaged = [result for result in self.log.results(self.record.id) if self._is_damaged(result)]
        if damaged:
            self.log.reopen(damaged)

    def _is_damaged(self, result: ResultRecord) -> bool:
        try:
            restored_result(self.atlas, self.record, result)
        except DamagedArray as error:
            self._note_damage(result.array_hash, str(error))
            return True
        return False

    def _drop(self, damaged: Damaged) -> None:
        # Another process may have merged this shard and deleted its file: then nothing is damaged.
        if self.log.drop_shard(damaged.shard):
            self._note_damage(damaged.shard.array_hash, str(damaged))

    def _note_damage(self, array_hash: str, reason: str) -> None:
        _log.warning("%s It is being recomputed from its stimuli.", reason)
        self.recomputed.append(str(self.atlas.array_path(array_hash)))

    # -- batches -----------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Computes every batch that no shard covers; those that another process works on come last."""
        postponed = []
        for batch in range(self.record.batch_count):
            if self.log.wants(self.record.id, batch):
                if self.log.claim(self.record.id, batch, self.owner):
                    self._store(batch)
                else:
                    postponed.append(batch)
            self._report(batch)
        for batch in postponed:
            # Still not there: whoever claimed it is slow, or dead.
            if self.log.wants(self.record.id, batch):
                self._store(batch)

    def _report(self, batch: int) -> None:
        self.progress(min((batch + 1) * self.record.batch_size, len(self.plan.stimuli)), len(self.plan.stimuli))

    def _store(self, batch: int) -> None:
        size = self.record.batch_size
        contents, ids = self._load(self.plan.stimuli[batch * size : (batch + 1) * size])
        reducers = {pair: reducer.fresh() for pair, reducer in self.wanted.items()}
        seen = 0
        for start in range(0, len(ids), self.pass_size):
            part = slice(start, start + self.pass_size)
            for prepared in self._prepare(contents[part], ids[part]):
                self._reduce(prepared, reducers)
                seen += len(prepared.ids)
        self.batches_run += 1
        skipped = len(self.plan.stimuli[batch * size : (batch + 1) * size]) - seen
        shard = ShardRecord(self.record.id, batch, 1, seen, skipped, provenance=self.plan.provenance)
        if self.log.add_shard(shard, to_arrays(reducers)):
            self._compact()

    def _load(self, stimuli: Sequence[Any]) -> tuple[list[Any], list[str]]:
        contents, ids = [], []
        for stimulus in stimuli:
            try:
                contents.append(stimulus.load())
                ids.append(stimulus.id)
            except BadInput as error:
                self._skip(stimulus.id, error)
        return contents, ids

    def _prepare(self, contents: list[Any], ids: list[str]) -> list[Any]:
        """One batch; or, if these stimuli do not go together, one for each of those that can be used."""
        try:
            return [self.plan.network.prepare(contents, ids)]
        except BadInput:
            singles = [self._prepare_one(content, name) for content, name in zip(contents, ids)]
            return [single for single in singles if single is not None]

    def _prepare_one(self, content: Any, name: str) -> Any:
        try:
            return self.plan.network.prepare([content], [name])
        except BadInput as error:
            self._skip(name, error)
            return None

    def _skip(self, name: str, error: BadInput) -> None:
        _log.warning("Stimulus %s was skipped: %s", name, error)
        self.reasons.append(str(error))

    def _reduce(self, prepared: Any, reducers: dict[Pair, Reducer]) -> None:
        sites = list(dict.fromkeys(site for site, _ in reducers))
        run = self.plan.network.run(prepared, capture=sites, stop_at=True)
        for site in sites:
            there = as_positions(self.plan.layouts[site], run[site], prepared.mask)
            check_finite(site, prepared.ids, there.acts, there.valid)
            for (where, _), reducer in reducers.items():
                if where == site:
                    reducer.update(prepared.ids, there.acts, there.valid, there.places)

    # -- merging -----------------------------------------------------------------------------------------------

    def _compact(self) -> None:
        while group := full_group(self.log.shards(self.record.id)):
            try:
                states = merged(self.atlas, group, self.wanted)
            except Damaged as damaged:
                self._drop(damaged)
            else:
                self.log.replace_shards(group, combined(group), to_arrays(states))

    def _finish(self) -> None:
        """Turns the shards into results, unless some are missing, damaged or being merged by another process."""
        shards = self.log.shards(self.record.id)
        if sum(shard.batch_count for shard in shards) != self.record.batch_count:
            return
        seen = sum(shard.seen for shard in shards)
        if not seen:
            reason = f" ({self.reasons[0]})" if self.reasons else ""
            raise BadInput(f"None of {len(self.plan.stimuli)} stimuli could be used{reason}; give other stimuli.")
        try:
            states = merged(self.atlas, shards, self.wanted)
        except Damaged as damaged:
            self._drop(damaged)
            return
        arrays = {pair: reducer.state() for pair, reducer in states.items()}
        self.log.finish(shards, arrays, seen=seen, skipped=sum(shard.skipped for shard in shards))


def check_finite(
    site: str,
    ids: Sequence[str],
    acts: Float[Tensor, "batch pos unit"],
    valid: Bool[Tensor, "batch pos"] | None = None,
) -> None:
    """Raises :class:`BadInput` that names the site and the stimulus if a real position is NaN or infinite."""
    # One sum shows whether there can be any; an overflow of the sum itself is sorted out below.
    if bool(torch.isfinite(acts.sum())):
        return
    bad = ~torch.isfinite(acts)
    bad = bad if valid is None else bad & valid[:, :, None]
    if not bool(bad.any()):
        return
    stimulus, position, unit = bad.nonzero()[0].tolist()
    raise BadInput(
        f"Unit {unit} of {site} is {float(acts[stimulus, position, unit])} on stimulus {ids[stimulus]}; "
        "check the network's weights and preprocessing, or leave the stimulus out."
    )
