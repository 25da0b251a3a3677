"""Every room has a front door, and what it names is there."""

import ast
import importlib

import pytest

import cutaway
from tests.house.source import PACKAGE, rooms, tree

PACKAGES = ["cutaway", *(f"cutaway.{room}" for room in rooms())]


@pytest.mark.parametrize("name", PACKAGES)
def test_the_front_door_says_what_the_room_is_for(name: str) -> None:
    door = importlib.import_module(name)
    assert door.__doc__
    assert len(door.__doc__.split()) >= 12, "say what enters, what leaves, what is promised"
    assert sorted(door.__all__) == sorted(set(door.__all__)), "no name twice"
    assert all(hasattr(door, public) for public in door.__all__)
    assert not [public for public in door.__all__ if public.startswith("_") and public != "__version__"]


@pytest.mark.parametrize("name", PACKAGES)
def test_public_names_of_the_package_say_what_they_are(name: str) -> None:
    door = importlib.import_module(name)
    functions = [getattr(door, public) for public in door.__all__]
    silent = [value.__qualname__ for value in functions if hasattr(value, "__qualname__") and not value.__doc__]
    assert silent == []


def test_there_are_about_fifteen_public_names_at_the_top() -> None:
    assert 12 <= len([name for name in cutaway.__all__ if not name.startswith("__")]) <= 18


def test_an_unknown_name_at_the_top_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cutaway.nothing  # type: ignore[attr-defined]


def test_type_checkers_see_the_lazy_names() -> None:
    names = {
        alias.name
        for node in ast.walk(tree(PACKAGE / "__init__.py"))
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert names == set(cutaway.__all__) - {"__version__"}
