"""The workflows: what an audit returns, keeps and refuses, on small networks with a planted unit."""

import json
from pathlib import Path

import pytest
import torch

import cutaway
from cutaway.atlas import Atlas
from cutaway.errors import AtlasMismatch, BadInput
from cutaway.evidence import Verdict
from cutaway.report import write_report
from tests.audits.test_powerful_units import classifier, vectors
from tests.networks.tiny import convnet


@pytest.fixture
def audited(tmp_path: Path) -> cutaway.audits.AuditResult:
    network = classifier(planted=17)
    atlas = Atlas(tmp_path / "atlas")
    return cutaway.audit(network, atlas=atlas, stimuli=vectors(), command="cutaway audit it --seed 0")


def test_an_audit_answers_every_question(audited: cutaway.audits.AuditResult) -> None:
    outcomes = {result.rule: result for result in audited.results}
    assert set(outcomes) == {"edge-decision", "powerful-units", "protected-attributes"}
    assert outcomes["edge-decision"].not_testable and outcomes["protected-attributes"].not_testable
    (finding,) = outcomes["powerful-units"].findings
    assert finding.location[0] == "1:17" and finding.verdict is Verdict.OBSERVED
    assert any("Specificity was not measured" in limit for limit in finding.limits)
    assert [card.address for card in audited.cards][:1] == ["1:17"]


def test_coverage_counts_what_was_examined(audited: cutaway.audits.AuditResult) -> None:
    assert audited.coverage is not None
    (row,) = audited.coverage.rows
    found = dict(zip(audited.coverage.columns, row))
    assert (found["units"], found["in all"], found["examined"]) == ("activation", 64, 64)
    listed = len(audited.findings[0].location)
    assert found["observed"] == listed >= 1 and found["share unexplained"] == pytest.approx(1 - listed / 64)


def test_findings_and_cards_are_kept_in_the_atlas(tmp_path: Path, audited: cutaway.audits.AuditResult) -> None:
    atlas = Atlas(tmp_path / "atlas")
    (kept,) = atlas.findings.all()
    assert kept.rule == "powerful-units" and kept.provenance.network_fingerprint == audited.fingerprint
    assert atlas.cards.get("1:17") is not None


def test_reports_agree(tmp_path: Path, audited: cutaway.audits.AuditResult) -> None:
    paths = write_report(audited, tmp_path / "report")
    document = json.loads(paths["json"].read_text())
    claim = document["findings"][0]["claim"]
    assert claim in paths["md"].read_text().replace("\\", "") and "1:17" in paths["html"].read_text()


def test_same_seed_same_numbers(tmp_path: Path) -> None:
    first, second = (
        cutaway.audit(classifier(planted=3), atlas=tmp_path / name, stimuli=vectors()).findings for name in "ab"
    )
    assert first == second


def test_an_atlas_of_another_network_is_refused(tmp_path: Path) -> None:
    cutaway.audit(classifier(planted=3), atlas=tmp_path / "atlas", stimuli=vectors(), rules=["edge-decision"])
    with pytest.raises(AtlasMismatch):
        cutaway.audit(classifier(planted=4), atlas=tmp_path / "atlas", stimuli=vectors(), rules=["edge-decision"])


def test_observe_and_feature_share_an_atlas(tmp_path: Path) -> None:
    network = classifier(planted=17)
    observation = cutaway.observe(network, vectors(), atlas=tmp_path / "atlas")
    again = cutaway.observe(network, vectors(), atlas=tmp_path / "atlas")
    assert observation.sites == ("1",) and observation.seen == 40
    assert (observation.batches_run, again.batches_run) == (5, 0)
    card = cutaway.feature(network, "1:17", stimuli=vectors(), atlas=tmp_path / "atlas")
    assert card.address == "1:17" and card.to_json()["address"] == "1:17"


def test_what_cannot_be_shown(tmp_path: Path) -> None:
    network = cutaway.wrap(convnet())
    with pytest.raises(BadInput, match="give stimuli"):
        cutaway.observe(network, atlas=tmp_path / "atlas")
    with pytest.raises(BadInput, match="quick or full"):
        cutaway.audit(network, profile="thorough", atlas=tmp_path / "atlas")


def test_bfloat16_networks_are_audited_too(tmp_path: Path) -> None:
    network = classifier(planted=17)
    network.module.to(torch.bfloat16)
    result = cutaway.audit(network, atlas=tmp_path / "atlas", stimuli=vectors(), rules=["powerful-units"])
    assert result.findings[0].location[0] == "1:17"
