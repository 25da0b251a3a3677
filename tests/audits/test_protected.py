"""The rule on whole networks: clean ones, one with a planted bias, and ones that cannot be asked."""

from collections.abc import Iterator

import pytest
from torch import nn

import cutaway
from cutaway.audits.findings import RuleResult, Severity
from cutaway.audits.protected import ProtectedAttributes
from cutaway.audits.protected_attributes import plan, stages
from cutaway.audits.rules import AuditContext, Profile, Rule
from cutaway.evidence import Verdict
from cutaway.networks.network import Network
from cutaway.stimuli import attribute
from tests.audits import protected_networks as tiny

PROFILE = Profile("tiny", 8, 4, 30, 99, 4, 4, 1, 4, 2)
RAISED, LOWERED = ("approve", "accept", "grant"), ("reject", "refuse", "deny")


pytestmark = pytest.mark.xdist_group("protected")  # the audited network is made once, not once a worker


@pytest.fixture(scope="module", autouse=True)
def _few_draws() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "LEAST_SHUFFLES", 99)
        patch.setattr(stages, "FEW_SHUFFLES", 19)
        yield


def _audit(network: Network, command: str = "") -> RuleResult:
    return ProtectedAttributes().check(AuditContext(network, None, None, PROFILE, command=command))


@pytest.fixture(scope="module")
def biased(_few_draws: None) -> RuleResult:
    network = tiny.plant(tiny.clean(1), tiny.marked_words("race"), RAISED, LOWERED, 1.0)
    return _audit(network, command="cutaway audit tiny")


def _edges(result: RuleResult) -> dict[str, object]:
    return {finding.location[-1]: finding for finding in result.findings if "->" in finding.location[-1]}


def test_a_planted_edge_is_found_inside_with_its_sign(biased: RuleResult) -> None:
    finding = _edges(biased)["race->loan"]
    assert finding.verdict is Verdict.CAUSAL, finding.limits
    assert finding.effect.value > 0
    assert finding.severity.rank >= Severity.LOW.rank
    assert finding.reproduce == "cutaway audit tiny"
    assert all(control.passed for control in finding.controls)


def test_nothing_is_said_of_attributes_that_were_not_planted(biased: RuleResult) -> None:
    assert {place.split("->")[0] for place in _edges(biased)} == {"race"}


def test_a_bias_on_names_alone_is_found_and_called_so() -> None:
    # The three answers are read by loan, hire and parole. Four names leave little power: only the surest edge, parole,
    # survives the correction over all tests (docs/audits/protected-attributes.md, limits).
    names = [pair.marked for pair in attribute("race").pairs if pair.kind == "cue"]
    edges = _edges(_audit(tiny.plant(tiny.clean(1), names, LOWERED, RAISED, 1.0)))
    finding = edges["race->parole"]
    assert finding.claim.startswith("Race (hinted at) pushes") and finding.effect.value < 0
    assert finding.verdict.at_least(Verdict.OBSERVED), finding.limits
    assert {place.split("->")[0] for place in edges} == {"race"}


def test_a_clean_network_gives_no_finding() -> None:
    result = _audit(tiny.clean(0))
    assert result.findings == ()
    assert result.not_found and all(missing.claim for missing in result.not_found)
    assert any("63 of 63 edges" in missing.claim for missing in result.not_found)


def test_the_rule_enters_through_the_door() -> None:
    from cutaway.registry import RULES

    assert isinstance(RULES["protected-attributes"], Rule)


def test_networks_that_cannot_be_asked() -> None:
    rule = ProtectedAttributes()
    plain = cutaway.wrap(nn.Sequential(nn.Linear(2, 2)), name="plain")
    assert "no causal language model" in str(rule.applicable(plain))
    network = tiny.clean(0)
    mute = cutaway.wrap(network.module, name="mute")
    assert "no tokenizer" in str(rule.applicable(mute))
    bare = cutaway.wrap(network.module, name="bare", tokenizer=network.tokenizer, family="generic", task="causal-lm")
    assert "no residual stream" in str(rule.applicable(bare))
    assert rule.applicable(network) is None
