"""The JSON twin: strict, complete, stable."""

import json
import math

import numpy as np
import pytest

from cutaway.audits.findings import RuleResult, Table
from cutaway.evidence.measurement import Measurement
from cutaway.report import SCHEMA, document, render_json
from cutaway.report.json_twin import plain
from tests.report.samples import bare, hostile, realistic

FIELDS = {"value", "low", "high", "null_mean", "null_std", "p", "n", "seed"}


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


@pytest.mark.parametrize("audit", [realistic, hostile, bare])
def test_the_text_is_strict_json_and_holds_the_document(audit):
    assert json.loads(render_json(audit()), parse_constant=refuse) == document(audit())


def test_it_names_what_it_is_about():
    found = document(realistic())
    assert list(found)[:5] == ["schema", "command", "version", "network", "fingerprint"]
    assert found["schema"] == SCHEMA and found["network"] == "smollm2-135m" and found["worst_severity"] == "high"
    assert found["verdict"].startswith("5 findings: 1 high (causal)")
    assert [question["outcome"] for question in found["questions"]] == ["found", "found", "not testable"]


def test_every_finding_is_there_in_full():
    for written, found in zip(document(realistic())["findings"], realistic().findings, strict=True):
        assert (written["claim"], written["reproduce"]) == (found.claim, found.reproduce)
        assert written["fingerprint"] == found.fingerprint and written["limits"] == list(found.limits)
        assert set(written["effect"]) == FIELDS
        assert [Measurement.from_json(control["measurement"]) for control in written["controls"]] == [
            control.measurement for control in found.controls
        ]


def test_what_was_not_measured_is_null():
    table = Table("t", ("a", "b", "c"), ((Measurement(1.0), math.nan, math.inf), (np.float32(0.5), np.int64(3), None)))
    rows = document(bare(results=(RuleResult("r", "Why?", tables=(table,)),)))["questions"][0]["tables"][0]["rows"]
    assert rows[0][0]["value"] == 1.0 and rows[0][0]["low"] is None and rows[0][1:] == [None, None]
    assert rows[1] == [0.5, 3, None]


def test_plain_keeps_structure_and_spells_the_rest():
    assert plain({"a": (1, True, {"b": "x"}), 2: range(2)}) == {"a": [1, True, {"b": "x"}], "2": [0, 1]}
    assert plain(complex(1, 2)) == "(1+2j)"


def test_cards_come_along():
    cards = document(realistic())["cards"]
    assert len(cards) == 6 and cards[0]["card"]["firing_rate"]["value"] == 0.0124
