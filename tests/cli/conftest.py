"""A command line in an empty folder."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cutaway.cli.main import main

OWN = Path(__file__).with_name("networks.py")


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        return json.loads(self.stdout)


@pytest.fixture
def cutaway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """``cutaway("show", NET)`` in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CUTAWAY_DEBUG", raising=False)

    def run(*words: str) -> Ran:
        code = main(list(words))
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def own() -> Callable[[str], str]:
    """``own("image")``: the name of a network that local code makes."""
    return lambda function: f"module:{OWN}:{function}"


@pytest.fixture
def images(tmp_path: Path) -> str:
    """A folder of five images and one file that only says that it is one."""
    folder = tmp_path / "images"
    folder.mkdir()
    colours: Sequence[tuple[int, int, int]] = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (99, 99, 0), (9, 9, 9)]
    for number, colour in enumerate(colours):
        image = Image.new("RGB", (32, 32), colour)
        image.putpixel((number, 2 * number), (255, 255, 255))
        image.save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return str(folder)
