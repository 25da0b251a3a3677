"""Strings from outside, made safe to look at: names, prompts and labels come from files that somebody else wrote."""

import re
import unicodedata

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}  # controls, formats (bidirectional overrides among them), surrogates
_KEPT = {"\n", "\t"}
_MARKDOWN = re.compile(r"([\\`*_\[\]{}#|~$!])")


def visible(text: str) -> str:
    """``text`` with characters that show nothing or reorder others replaced by their code, as ``<U+202E>``.

    Without this a stimulus could make a report read other than it is stored (Boucher and Anderson, "Trojan
    Source", USENIX Security 2023).
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def markdown(text: object) -> str:
    """``text`` on one line for GitHub-flavoured Markdown, also inside a table cell: nothing in it is markup."""
    line = " ".join(visible(str(text)).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = _MARKDOWN.sub(r"\\\1", line).replace("@", "&#64;").replace("://", ":&#8203;//")
    return re.sub(r"^([-+]|\d+[.)])(?=\s)", r"&#8203;\1", line)


def markdown_code(text: object) -> str:
    """``text`` as a Markdown code span that its own backticks cannot leave."""
    line = " ".join(visible(str(text)).split()).replace("|", "\\|")
    if not line:
        return ""
    fence = "`" * (_longest_run(line) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def markdown_block(text: object, language: str = "") -> str:
    """``text`` as a fenced Markdown code block that its own backticks cannot leave."""
    shown = visible(str(text))
    fence = "`" * max(3, _longest_run(shown) + 1)
    return f"{fence}{language}\n{shown}\n{fence}"


def _shown(character: str) -> str:
    if character in _KEPT or unicodedata.category(character) not in _HIDDEN:
        return character
    return f"<U+{ord(character):04X}>"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall(r"`+", text)), default=0)
