"""An atlas: one folder that keeps everything known about one network."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from torch import Tensor

from cutaway.atlas import schema
from cutaway.atlas.arrays import GRACE_SECONDS, ArrayStore, explain_os_error, pack
from cutaway.atlas.database import Database, insert_new, select_records, sqlite_url
from cutaway.atlas.documents import CardTable, FindingTable, StimulusTable
from cutaway.atlas.observations import ObservationLog, referenced
from cutaway.atlas.records import NetworkRecord, Provenance, to_row
from cutaway.errors import AtlasError, AtlasMismatch


@dataclass(frozen=True)
class Damage:
    """An array file that a row refers to and that cannot be used; ``problem`` says why, in words."""

    hash: str
    path: Path
    problem: str


class Atlas:
    """The store of everything known about one network: facts in a database, arrays in files named by hash.

    ``path`` is a folder; it is made, and opened, by the first use. ``database_url`` puts the facts on a
    server (any SQLAlchemy URL of PostgreSQL) while the arrays stay in the folder. With ``create=False`` a
    missing atlas is an error instead. Several processes may use one atlas at once. Use it in a ``with`` block,
    or ``close()`` it.

    >>> with Atlas("runs/vgg16-hed") as atlas:                      # doctest: +SKIP
    ...     atlas.bind(network.name, network.fingerprint)
    """

    def __init__(self, path: str | Path, database_url: str | None = None, *, create: bool = True) -> None:
        self.path = Path(path)
        self._in_folder, self._may_create = database_url is None, create
        url = database_url or sqlite_url(self.path / "atlas.db")
        place = str(self.path / "atlas.db") if self._in_folder else sa.make_url(url).render_as_string()
        self._arrays = ArrayStore(self.path / "arrays")
        self._database = Database(url, place, self._make_folder)
        self.observations = ObservationLog(self._database, self._arrays)
        self.stimuli = StimulusTable(self._database)
        self.cards = CardTable(self._database)
        self.findings = FindingTable(self._database)

    def __enter__(self) -> "Atlas":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Atlas({str(self.path)!r})"

    def close(self) -> None:
        """Closes the database; the next use opens it again."""
        self._database.close()

    def _make_folder(self) -> None:
        exists = (self.path / "atlas.db").exists() if self._in_folder else self.path.is_dir()
        if not self._may_create and not exists:
            raise AtlasError(f"There is no atlas at {self.path}; make one with cutaway observe or cutaway audit.")
        if self.path.exists() and not self.path.is_dir():
            raise AtlasError(f"An atlas is a folder, and {self.path} is a file; name a folder.")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AtlasError(explain_os_error(error, "make the atlas folder", self.path)) from error

    # -- which network ---------------------------------------------------------------------------------------

    def bind(self, network_name: str, fingerprint: str) -> None:
        """Says which network this atlas describes; :class:`AtlasMismatch` if it describes another one."""
        record = NetworkRecord(fingerprint, network_name, Provenance(network_fingerprint=fingerprint))
        found = self.network()
        if found is None:
            with self._database.write() as connection:
                # Looked up again under the write lock: another process may have been faster.
                if not select_records(connection, NetworkRecord, schema.networks):
                    insert_new(connection, schema.networks, [to_row(record)])
            found = self.network() or record
        if found.fingerprint != fingerprint:
            raise AtlasMismatch(
                f"The atlas {self.path} was to be used for {network_name} ({fingerprint[:12]}) and describes "
                f"{found.name} ({found.fingerprint[:12]}); name another folder, or delete this one."
            )

    def network(self) -> NetworkRecord | None:
        """The network that this atlas describes; None before :meth:`bind`."""
        with self._database.read() as connection:
            found = select_records(connection, NetworkRecord, schema.networks)
        return found[0] if found else None

    # -- arrays ----------------------------------------------------------------------------------------------

    def put_arrays(self, arrays: Mapping[str, Tensor | np.ndarray]) -> str:
        """Stores named arrays in one file and returns its name, the sha256 of its bytes.

        A row has to take that hash into its ``array_hash``; a file that none names is deleted by
        :meth:`remove_unreferenced` once it is an hour old.
        """
        packed = pack(arrays)
        self._make_folder()
        self._arrays.put(packed)
        return packed.hash

    def get_arrays(self, array_hash: str) -> dict[str, Tensor]:
        """The arrays of a file, its hash checked; :class:`DamagedArray` names a file that cannot be used."""
        return self._arrays.get(array_hash)

    def array_path(self, array_hash: str) -> Path:
        """Where the file of this hash is, or would be."""
        return self._arrays.path(array_hash)

    def damage(self, array_hash: str) -> str | None:
        """What is wrong with an array file, in words; None if it is whole."""
        return self._arrays.damage(array_hash)

    def check(self) -> list[Damage]:
        """Reads every array file that a row refers to and lists the missing, cut short or changed ones."""
        with self._database.read() as connection:
            hashes = sorted(referenced(connection))
        problems = ((array_hash, self._arrays.damage(array_hash)) for array_hash in hashes)
        return [Damage(each, self._arrays.path(each), problem) for each, problem in problems if problem]

    def remove_unreferenced(self, *, older_than: float = GRACE_SECONDS) -> int:
        """Deletes array files that no row refers to and that have this age in seconds; returns how many.

        The default leaves alone what another process may have written for a row that is still to come.
        """
        with self._database.write() as connection:
            unused = set(self._arrays.hashes()) - referenced(connection)
            removed = self._arrays.discard(unused, older_than=older_than)
        with contextlib.suppress(OSError):
            removed += self._arrays.discard_leftovers(older_than=older_than)
        return removed
