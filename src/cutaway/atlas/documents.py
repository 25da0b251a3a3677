"""Facts that are whole documents: stimuli, cards, findings."""

from collections.abc import Iterable, Sequence

from cutaway.atlas import schema
from cutaway.atlas.database import Database, insert_new, insert_or_replace, select_records
from cutaway.atlas.records import CardRecord, FindingRecord, StimulusRecord, StimulusSetRecord, to_row


class StimulusTable:
    """The stimuli that were shown, by set, so that an id can be traced to its source."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, stimulus_set: StimulusSetRecord, stimuli: Iterable[StimulusRecord] = ()) -> None:
        """Enters a set with its stimuli; what is there already stays."""
        rows = [to_row(stimulus) for stimulus in stimuli]
        with self._database.write() as connection:
            insert_new(connection, schema.stimulus_sets, [to_row(stimulus_set)])
            insert_new(connection, schema.stimuli, rows)

    def sets(self) -> list[StimulusSetRecord]:
        """All sets, by name."""
        table = schema.stimulus_sets
        with self._database.read() as connection:
            return select_records(connection, StimulusSetRecord, table, order=(table.c.name, table.c.fingerprint))

    def of_set(self, fingerprint: str) -> list[StimulusRecord]:
        """The stimuli of a set, in the order in which they were shown."""
        table = schema.stimuli
        with self._database.read() as connection:
            where = table.c.set_fingerprint == fingerprint
            return select_records(connection, StimulusRecord, table, where, order=table.c.ordinal)

    def get(self, set_fingerprint: str, stimulus_id: str) -> StimulusRecord | None:
        """One stimulus; None if the atlas does not know it."""
        table = schema.stimuli
        where = (table.c.set_fingerprint == set_fingerprint, table.c.id == stimulus_id)
        with self._database.read() as connection:
            found = select_records(connection, StimulusRecord, table, *where)
        return found[0] if found else None


class CardTable:
    """Documents about features, by address and kind; a newer one replaces an older one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, *cards: CardRecord) -> None:
        """Enters cards in one transaction."""
        with self._database.write() as connection:
            insert_or_replace(connection, schema.cards, [to_row(card) for card in cards])

    def get(self, address: str, kind: str = "card") -> CardRecord | None:
        """The document of that kind about this address; None if there is none."""
        found = self.all(address=address, kind=kind)
        return found[0] if found else None

    def all(self, *, address: str | None = None, kind: str | None = None) -> list[CardRecord]:
        """The cards of an address or a kind, or all of them, by address."""
        table = schema.cards
        wanted = ((table.c.address, address), (table.c.kind, kind))
        where = [column == value for column, value in wanted if value is not None]
        with self._database.read() as connection:
            return select_records(connection, CardRecord, table, *where, order=(table.c.address, table.c.kind))


class FindingTable:
    """Findings, under the identity that each keeps across runs; a newer one replaces an older one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, *findings: FindingRecord) -> None:
        """Enters findings in one transaction."""
        with self._database.write() as connection:
            insert_or_replace(connection, schema.findings, [to_row(finding) for finding in findings])

    def all(self, *, rules: Sequence[str] | None = None) -> list[FindingRecord]:
        """All findings, or those of some rules, by rule."""
        table = schema.findings
        where = () if rules is None else (table.c.rule.in_(rules),)
        with self._database.read() as connection:
            return select_records(connection, FindingRecord, table, *where, order=(table.c.rule, table.c.id))
