"""Every error that cutaway raises on purpose: one small tree.

    CutawayError                exit code 2
    ├── UnknownName             a network, site, unit, rule ... that does not exist; suggests near names
    ├── BadInput                a stimulus, batch, edit or option that cannot be used
    │   └── BadFile             a file that is damaged, hostile or of the wrong kind
    ├── Unavailable             something that has to be fetched or installed, and is not there
    ├── AtlasError              a store that cannot be used
    │   ├── AtlasMismatch       it describes another network
    │   └── DamagedArray        an array file whose content no longer matches its hash
    └── NotTestable             exit code 3: the question has no answer on this network

A message says what was asked, what was found and what to do, in one sentence. The command line prints it as one
line and leaves with ``exit_code``.
"""

import difflib
from collections.abc import Iterable


class CutawayError(Exception):
    """Something that the user can mend; the message is one sentence that says how."""

    exit_code = 2


class UnknownName(CutawayError):
    """A name that is not in a closed set; the message suggests the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.kind, self.name = kind, name
        self.suggestions = near_names(name, known)
        did_you_mean = f"; did you mean {' or '.join(self.suggestions)}?" if self.suggestions else "."
        super().__init__(f"There is no {kind} named {name!r}{did_you_mean}{' ' + hint if hint else ''}")


class BadInput(CutawayError):
    """An input that cannot be used as it is."""


class BadFile(BadInput):
    """A file that is damaged, hostile, or not of the kind that its name promises."""


class Unavailable(CutawayError):
    """Something that has to be fetched or installed first."""


class AtlasError(CutawayError):
    """An atlas that cannot be used."""


class AtlasMismatch(AtlasError):
    """An atlas that describes another network."""


class DamagedArray(AtlasError):
    """An array file whose bytes no longer have the hash that the atlas recorded."""


class NotTestable(CutawayError):
    """The question has no answer on this network; the message says why."""

    exit_code = 3


def near_names(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Known names that are close to ``name``, best first: by spelling, then by common beginning or end."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=count, cutoff=0.6)
    lowered = name.lower()
    for candidate in known:
        if len(close) >= count:
            break
        other = candidate.lower()
        if lowered and candidate not in close and (other.startswith(lowered) or other.endswith(lowered)):
            close.append(candidate)
    return close


def missing_extra(package: str, extra: str, purpose: str) -> Unavailable:
    """The error for an optional package that is not installed."""
    return Unavailable(f"{purpose} needs the package {package!r}: pip install 'cutaway[{extra}]'.")
