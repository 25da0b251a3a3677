"""The plug-in doors: small dictionaries that a decorator or a Python entry point fills.

    FAMILIES    how to name the sites of a kind of network       entry-point group ``cutaway.families``
    RULES       what an audit asks                               entry-point group ``cutaway.rules``
    REDUCERS    what observation keeps of a stream of activations          ``cutaway.reducers``
    FUNCTIONS   named functions that a Replace edit may call               ``cutaway.functions``

The built-in ones enter through the same doors as a stranger's::

    @RULES.register("my-rule")
    class MyRule: ...
"""

from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from cutaway.errors import CutawayError, UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to plug-ins, in order of registration; a name can be taken once."""

    def __init__(self, kind: str, group: str) -> None:
        self.kind, self.group = kind, group
        self._entries: dict[str, T] = {}
        self._entry_points_loaded = False

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that enters its object under ``name``; a taken name raises."""

        def enter(plugin: T) -> T:
            if name in self._entries:
                raise CutawayError(f"The {self.kind} {name!r} is registered already; choose another name.")
            self._entries[name] = plugin
            return plugin

        return enter

    def __getitem__(self, name: str) -> T:
        self._load_entry_points()
        if name not in self._entries:
            raise UnknownName(self.kind, name, self._entries)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        self._load_entry_points()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._load_entry_points()
        return iter(list(self._entries))

    def items(self) -> list[tuple[str, T]]:
        """All plug-ins with their names."""
        self._load_entry_points()
        return list(self._entries.items())

    def _load_entry_points(self) -> None:
        if self._entry_points_loaded:
            return
        self._entry_points_loaded = True
        for entry in entry_points(group=self.group):
            if entry.name not in self._entries:
                self._entries[entry.name] = entry.load()


FAMILIES: Registry = Registry("network family", "cutaway.families")
RULES: Registry = Registry("audit rule", "cutaway.rules")
REDUCERS: Registry = Registry("reducer", "cutaway.reducers")
FUNCTIONS: Registry = Registry("replacement function", "cutaway.functions")
