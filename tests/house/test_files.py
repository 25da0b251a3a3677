"""Nothing in the repository belongs to one machine, is a secret, or is too big to clone."""

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.house.source import ROOT, repository_files

FILE_BYTES = 20_000_000
SECRETS = {
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE" r" KEY-----",
    "a cloud key": r"\bAKIA[0-9A-Z]{16}\b",
    "a GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36}\b",
    "a hub token": r"\bhf_[A-Za-z0-9]{34}\b",
    "an API key": r"\bsk-[A-Za-z0-9_-]{32,}\b",
    "a password in an address": r"\b[a-z]+://[^/\s:@{}]+:[^/\s:@{}]+@[a-z0-9]",
}
PUBLIC_HOSTS = {"pypi.org", "files.pythonhosted.org", "download.pytorch.org"}


@cache
def own_to_this_machine() -> tuple[str, ...]:
    """Strings that only mean something here: this checkout, this user's home, the package index in use."""
    paths = [str(ROOT) + os.sep, str(ROOT.parent) + os.sep, str(Path.home()) + os.sep]
    question = [sys.executable, "-m", "pip", "config", "list"]
    settings = subprocess.run(question, capture_output=True, text=True, check=False).stdout
    addresses = re.findall(r"https?://[^\s'\"\\]+", " ".join([settings, *_index_variables()]))
    hosts = {urlsplit(address).hostname or "" for address in addresses} - PUBLIC_HOSTS - {""}
    return tuple(each for each in (*paths, *sorted(hosts)) if len(each) > 5)


def _index_variables() -> list[str]:
    return [value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_")) and "://" in value]


def faults(text: str) -> list[str]:
    """What a file's text should not hold."""
    own = ["something of this machine" for each in own_to_this_machine() if each in text]
    return own + [kind for kind, pattern in SECRETS.items() if re.search(pattern, text)]


def test_no_file_holds_a_secret_or_a_place_of_this_machine() -> None:
    found = {}
    for path in repository_files():
        data = path.read_bytes()
        if b"\0" not in data[:8192] and (wrong := faults(data.decode("utf-8", "replace"))):
            found[str(path.relative_to(ROOT))] = wrong
    assert found == {}


def test_no_file_is_big() -> None:
    big = {path.name: path.stat().st_size for path in repository_files() if path.stat().st_size > FILE_BYTES}
    assert big == {}


@pytest.mark.parametrize(
    "text",
    [
        f"open('{ROOT}{os.sep}x')",
        f"{Path.home()}{os.sep}.cache" if len(str(Path.home())) > 4 else f"{ROOT}{os.sep}",
        "-----BEGIN RSA PRIVATE" + " KEY-----",
        "AKIA" + "A1" * 8,
        "token = 'hf" + "_" + "a" * 34 + "'",
        "https://user" + ":secret" + "@example.org/simple",
    ],
)
def test_such_a_thing_would_be_seen(text: str) -> None:
    assert faults(text)


def test_ordinary_text_is_let_through() -> None:
    assert faults("pip install cutaway; see https://pypi.org/simple, ./runs/vgg16-hed and ~/.cache/cutaway") == []
