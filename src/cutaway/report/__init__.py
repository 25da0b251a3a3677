"""The report room: what an audit says to people, and the same to programs.

What enters: an :class:`cutaway.audits.findings.AuditResult`, with feature cards. What leaves: one self-contained
HTML file with Markdown and JSON twins (:func:`write_report`), and a summary for the terminal (:func:`summary`).
What is promised: a report is a pure function of its audit; every format holds every finding with its controls,
limits and the command that reproduces it; nothing from a network or a stimulus is ever markup or script; the HTML
loads nothing from anywhere; files appear whole or not at all. docs/report.md tells how to read one.

    words, numbers, cells, text     what is said, how numbers read, how strings from outside are made safe
    html (templates/), interval_plot, markdown, json_twin     one format each
    write, summary                  to a folder, to a terminal
"""

from cutaway.report.html import render_html
from cutaway.report.json_twin import SCHEMA, document, render_json
from cutaway.report.markdown import render_markdown
from cutaway.report.summary import summary
from cutaway.report.words import headline, outcome
from cutaway.report.write import FORMATS, write_report

__all__ = [
    "FORMATS",
    "SCHEMA",
    "document",
    "headline",
    "outcome",
    "render_html",
    "render_json",
    "render_markdown",
    "summary",
    "write_report",
]
