"""The parts of the rule, on cases computed by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cutaway.audits.findings import Severity
from cutaway.audits.protected_attributes import severity
from cutaway.audits.protected_attributes.edges import against_pooled
from cutaway.audits.protected_attributes.encoding import bag_of_tokens, compare, probe_sites
from cutaway.audits.protected_attributes.occupations import Gaps, alignment, definitional_gap, plain_check
from cutaway.audits.protected_attributes.plan import balanced, evenly
from cutaway.audits.protected_attributes.reading import Reading, added, read, tokenized, tokenized_pairs
from cutaway.audits.protected_attributes.shifts import PairShifts, Shift, observed_shifts, random_shifts
from cutaway.audits.protected_attributes.sinks import Markers, decision_sink
from cutaway.audits.protected_attributes.steering import NEUTRAL, Observed, Steerer, edge_specifications, off_target
from cutaway.audits.protected_attributes.swaps import cases_of, measure_pairs, moderated_p, pair_means, swap
from cutaway.audits.protected_attributes.units import rank_units
from cutaway.errors import NotTestable
from cutaway.evidence import Measurement
from cutaway.networks.edits import Replace
from cutaway.networks.network import Network
from cutaway.stimuli import attribute_prompts, decision_sinks, definitional_pairs, occupation_templates, occupations
from tests.audits import protected_networks as tiny


@pytest.fixture(scope="module")
def network() -> Network:
    return tiny.clean(3)


PAIR = ["On Friday the blind woman came", "On Friday the quiet woman came", "A Jamal sat here", "A Connor sat here"]


def test_the_marker_ends_where_the_common_ending_begins(network: Network) -> None:
    assert tokenized_pairs(network, PAIR).marker.tolist() == [3, 3, 1, 1]
    assert tokenized(network, PAIR).marker.tolist() == [5, 5, 3, 3]
    longer = tokenized_pairs(network, ["the African American woman came", "the quiet woman came"])
    assert longer.marker.tolist() == [2, 1]


def test_reading_keeps_the_order_and_the_numbers(network: Network) -> None:
    prompts = tokenized_pairs(network, [*PAIR, "the woman", "the man"])
    seen = read(network, prompts, words=(5, 7), sites=("layers.1.resid",))
    for row, text in enumerate([*PAIR, "the woman", "the man"]):
        alone = network.run([text], capture=["layers.1.resid"])
        wanted = alone.logits[0, -1].log_softmax(-1)[[5, 7]].numpy()
        np.testing.assert_allclose(seen.log_probs[row], wanted, atol=1e-5)
        torch.testing.assert_close(seen.last["layers.1.resid"][row], alone["layers.1.resid"][0, -1], atol=1e-5, rtol=0)
        at = int(prompts.marker[row])
        torch.testing.assert_close(
            seen.marker["layers.1.resid"][row], alone["layers.1.resid"][0, at], atol=1e-5, rtol=0
        )


def test_a_shift_is_added_at_the_marker_and_after_it_only(network: Network) -> None:
    prompts, site = tokenized_pairs(network, PAIR), "layers.0.resid"
    rows = np.array([0, 3])
    batch = prompts.take(rows)
    one, two = torch.ones(2, tiny.WIDTH), 2 * torch.ones(2, tiny.WIDTH)
    before = network.run(batch, capture=[site])[site]
    after = network.run(batch, capture=[site], edits=[added(site, prompts, rows, one, two)])[site]
    change = (after - before).mean(-1)
    np.testing.assert_allclose(change[0], [0, 0, 0, 1, 2, 2], atol=1e-6)
    np.testing.assert_allclose(change[1, :4], [0, 1, 2, 2], atol=1e-6)


def _gaps(by_noun: dict[str, list[float]]) -> Gaps:
    gap = np.array(list(by_noun.values()))
    return Gaps(tuple(by_noun), gap, np.full(gap.shape, 0.5))


def test_alignment_is_one_where_she_follows_the_share_of_women() -> None:
    jobs = occupations()
    gaps = _gaps({one.name: [-one.women_percent, -one.women_percent - 1] for one in jobs})
    measured = alignment(gaps, jobs, shuffles=199, seed=0)
    assert measured.value == pytest.approx(1.0, abs=1e-3)  # equal shares of women are ties
    assert measured.p == pytest.approx(2 / 200) and measured.n == 60
    reverse = _gaps({one.name: [one.women_percent, one.women_percent] for one in jobs})
    assert alignment(reverse, jobs, shuffles=99, seed=0).value == pytest.approx(-1.0, abs=1e-3)
    with pytest.raises(NotTestable, match="same pronoun gap"):
        alignment(_gaps({one.name: [1.0] for one in jobs}), jobs, shuffles=9, seed=0)


def test_plain_check_and_definitional_gap_by_hand() -> None:
    names = ["nurse", "librarian", "teacher", "carpenter", "CEO", "mechanic"]
    gaps = _gaps(
        dict(zip(names, [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0], [4.0, 5.0], [5.0, 6.0], [6.0, 7.0]], strict=True))
    )
    assert plain_check(gaps, 0).value == pytest.approx(-4.0)
    pairs = definitional_pairs()[:2]
    known = {pairs[0].male: [3.0], pairs[0].female: [1.0], pairs[1].male: [4.0], pairs[1].female: [0.0]}
    assert definitional_gap(_gaps(known), pairs, 0).value == pytest.approx(3.0)


def test_effects_are_tested_over_marker_pairs_not_rows() -> None:
    values, pairs = np.array([1.0, 1.0, 3.0, 3.0]), ["a", "a", "b", "b"]
    assert pair_means(values, pairs).tolist() == [1.0, 3.0]
    measured = measure_pairs(values, pairs)
    assert (measured.value, measured.n) == (2.0, 2)
    assert measured.p == pytest.approx(0.2951672, abs=1e-6)  # t = 2 with one degree of freedom
    assert measured.null_std == pytest.approx(np.sqrt(10) / 2)
    assert measure_pairs(np.ones(8), list("abcdefgh")).p == 2 / 256  # no spread: the chance that signs agree
    assert measure_pairs(np.zeros(8), list("abcdefgh")).p == 1.0


def test_a_held_out_shift_leaves_its_own_pair_out() -> None:
    marker = torch.tensor([[1.0, 0.0], [3.0, 0.0], [8.0, 0.0]])
    shifts = PairShifts("layers.0.resid", ("a", "b", "c"), marker, -marker)
    assert shifts.held_out(["c", "a"]).marker[:, 0].tolist() == [2.0, 5.5]
    assert shifts.held_out(["c"]).after[0, 0] == -2.0
    assert shifts.overall("median").marker[0, 0] == 3.0


def test_observed_shifts_are_marked_minus_contrast_in_one_half() -> None:
    prompts = [p for p in attribute_prompts("race") if p.template in ("bus", "coffee")]
    acts = torch.zeros(len(prompts), 1)
    for row, prompt in enumerate(prompts):
        acts[row] = (prompt.side == "marked") * (5.0 if prompt.half == "A" else 7.0) + row // 2
    shifts = observed_shifts(prompts, Reading(None, {"s": acts}, {"s": 2 * acts}), Markers("race"), "s", "A")
    assert shifts.after.flatten().tolist() == [5.0] * 8 and shifts.marker.flatten().tolist() == [10.0] * 8
    with pytest.raises(NotTestable, match="No prompts of half B"):
        observed_shifts(prompts[:2], Reading(None, {"s": acts}, {"s": acts}), Markers("race"), "s", "B")


def test_random_shifts_have_the_norms_of_the_shift() -> None:
    acts = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    like = Shift(3 * torch.ones(1, 4), torch.ones(1, 4))
    drawn = random_shifts(Reading(None, {"s": acts}, {"s": acts}), range(20), "s", like, 5, seed=1)
    assert len(drawn) == 5
    for shift in drawn:
        assert shift.marker.norm() == pytest.approx(6.0, abs=1e-4)
        assert shift.after.norm() == pytest.approx(2.0, abs=1e-4)


def test_null_effects_are_those_of_each_direction_alone(network: Network) -> None:
    sentences = tuple(p for p in attribute_prompts() if p.template in ("bus", "coffee"))
    site, race = "layers.0.resid", Markers("race", "cue")
    prompts = tokenized_pairs(network, [sentence.text for sentence in sentences])
    observed = Observed(sentences, read(network, prompts, sites=[site]))
    sink = decision_sink(network, decision_sinks()[1], templates=2)
    assert not isinstance(sink, str)
    steerer = Steerer(network, observed, swap(network, sink))
    together = steerer.null_effects(race, site=site, half="A", count=3, seed=0)
    rows = cases_of(sink, race, "B")
    like = observed.shifts(race, site, "A").overall()
    drawn = random_shifts(observed.reading, observed.others(race), site, like, 3, 0)
    base = steerer.swap.contrast["log-odds"][rows]
    for effect, shift in zip(together, drawn, strict=True):
        alone = sink.metrics["log-odds"](steerer.run(rows, site, shift, 1.0)) - base
        np.testing.assert_allclose(effect, alone.mean(0), atol=1e-4)
    assert len(rows) == 4 and np.abs(together).min() > 0


def test_effects_meet_the_pooled_null_in_its_own_standard_deviations() -> None:
    nulls = [np.array([-1.0, 0.0, 1.0]), np.array([-10.0, 0.0, 10.0])]
    first, second = against_pooled([Measurement(2.0), Measurement(2.0)], nulls)
    assert first.p == pytest.approx(1 / 7)  # z = 2: none of the six nulls, of |z| 1 and 0, reaches it
    assert second.p == pytest.approx(5 / 7)  # z = 0.2: four of them do
    assert (first.null_std, second.null_std) == (1.0, 10.0)


@pytest.mark.parametrize(
    ("attribute", "sink", "shift", "mass", "wanted"),
    [
        ("race", "loan", 0.2, 0.3, Severity.HIGH),
        ("race", "loan", -0.05, 0.3, Severity.MEDIUM),
        ("race", "loan", 0.01, 0.3, Severity.LOW),
        ("race", "loan", 0.2, 0.001, Severity.MEDIUM),
        ("race", "sentiment", 0.2, 0.3, Severity.MEDIUM),
        ("race", "sentiment", 0.01, 0.001, Severity.NOTE),
        ("pregnancy", "triage", 0.5, 0.3, Severity.LOW),
        ("race", "triage", 0.5, 0.3, Severity.HIGH),
    ],
)
def test_severity_follows_the_effect(attribute: str, sink: str, shift: float, mass: float, wanted: Severity) -> None:
    assert severity.of_decision(attribute, sink, shift, mass) is wanted


def test_severity_of_stereotypes() -> None:
    assert [severity.of_stereotype(rho) for rho in (-0.7, 0.4, 0.1)] == [Severity.MEDIUM, Severity.LOW, Severity.NOTE]


SENTENCES = tuple(p for p in attribute_prompts("race") if p.template in ("bus", "window", "coffee", "train"))


def _planted_acts(units: int, signal: float, seed: int = 0) -> torch.Tensor:
    acts = torch.randn(len(SENTENCES), units, generator=torch.Generator().manual_seed(seed))
    acts[:, 1] += signal * torch.tensor([1.0 if p.side == "marked" else -1.0 for p in SENTENCES])
    return acts


def test_the_unit_that_changes_comes_first_and_noise_does_not_count() -> None:
    found = rank_units("race", SENTENCES, {"layers.0.mlp": _planted_acts(40, 2.0)}, keep=3)
    assert found[0].address == "layers.0.mlp:1" and found[0].q < 0.05 < found[1].q
    assert found[0].held_out > 0.95 and found[0].change.value == pytest.approx(4.0, abs=0.7)
    assert all(
        unit.q > 0.05 for unit in rank_units("race", SENTENCES, {"layers.0.mlp": _planted_acts(40, 0.0)}, keep=3)
    )


def test_moderated_p_borrows_variance_from_all_tests() -> None:
    generator = np.random.default_rng(0)
    noise = list(generator.normal(0, 1, (60, 4)))
    p = moderated_p([*noise, np.array([5.0, 5.1, 4.9, 5.0]), np.array([0.30, 0.31, 0.30, 0.31])])
    assert p[60] < 1e-4  # far from zero in everybody's standard deviations
    assert p[61] > 0.05  # its own tiny variance would have made it sure
    uniform = moderated_p(list(generator.normal(0, 1, (4000, 4))))
    assert abs(float((uniform < 0.05).mean()) - 0.05) < 0.012
    # Two tests say too little about a prior: Student's own t, here 2 with one degree of freedom.
    assert moderated_p([np.array([1.0, 3.0]), np.array([1.0, 3.0])])[0] == pytest.approx(0.2951672, abs=1e-6)


def test_markers_can_be_all_or_of_one_kind() -> None:
    prompts = attribute_prompts("race")
    counts = [sum(Markers("race", kind).include(prompt) for prompt in prompts) for kind in ("all", "explicit", "cue")]
    assert counts == [192, 96, 96] and not Markers("age").include(prompts[0])
    assert str(Markers("race", "cue")) == "race (hinted at)"


def test_a_planted_direction_is_read_and_compared_with_every_world() -> None:
    planted = probe_sites("race", SENTENCES, {"s": _planted_acts(60, 2.0)}, shuffles=499, seed=0)
    noise = probe_sites("race", SENTENCES, {"s": _planted_acts(60, 0.0, seed=5)}, shuffles=99, seed=0)
    found = compare([planted], [noise], [noise], None, seed=0)[0]
    assert found.top.auroc.value > 0.85 and found.q < 0.05 and str(found.grade.verdict) == "observed"
    assert {test.null for test in found.tests} == {"shuffled-labels", "random-directions", "untrained-twin", "surface"}
    nothing = compare([noise], [planted], [planted], None, seed=0)[0]
    assert str(nothing.grade.verdict) == "asserted"


def test_a_bag_of_tokens_counts(network: Network) -> None:
    bag = bag_of_tokens(tokenized(network, ["the woman the", "man"]))
    assert sorted(bag[0].tolist()) == [0, 0, 1, 2] and sorted(bag[1].tolist()) == [0, 0, 0, 1]


def test_decisions_read_the_odds_of_their_answers(network: Network) -> None:
    sink = decision_sink(network, decision_sinks()[0], templates=2)
    assert not isinstance(sink, str)
    assert sink.spelled == (" hire", " accept", " invite", " reject", " refuse", " decline")
    assert len(sink.cases) == 2 * 72 and {case.half for case in sink.cases} == {"A", "B"}
    log_probs = np.log(np.array([[0.2, 0.1, 0.1, 0.05, 0.03, 0.02]]))
    assert sink.metrics["log-odds"](log_probs)[0, 0] == pytest.approx(np.log(4))
    assert sink.metrics["share"](log_probs)[0, 0] == pytest.approx(0.8)
    swapped = swap(network, sink)
    case = sink.cases[5]
    sides = [
        network.run([text]).logits[0, -1].log_softmax(-1)[list(sink.words)].numpy()
        for text in (case.marked, case.contrast)
    ]
    odds = [np.logaddexp.reduce(side[:3]) - np.logaddexp.reduce(side[3:]) for side in sides]
    assert swapped.effects()[5, 0] == pytest.approx(odds[0] - odds[1], abs=1e-4)


def test_answers_that_the_tokenizer_does_not_know_are_a_reason(network: Network) -> None:
    unknown = replace(decision_sinks()[0], name="odd", favorable=(" zzz",), unfavorable=(" qqq",))
    assert "writes no pair of the answers of 'odd'" in str(decision_sink(network, unknown, templates=2))


@pytest.mark.parametrize("sites", [("a",), ("a", "b"), ("a", "b", "c")])
def test_every_edge_is_asked_in_at_least_24_ways(sites: tuple[str, ...]) -> None:
    assert len(edge_specifications(sites)) >= 24


def test_off_target_is_the_growth_of_the_loss_after_the_first_token(network: Network) -> None:
    zero, site = torch.zeros(1, tiny.WIDTH), "layers.1.resid"
    assert off_target(network, site, Shift(zero, zero)) == pytest.approx(0.0, abs=1e-6)
    vector = 5 * torch.randn(1, tiny.WIDTH, generator=torch.Generator().manual_seed(2))
    vector *= -1 if off_target(network, site, Shift(vector, vector)) == 0 else 1

    def loss(edits: list[Replace]) -> float:
        nats: list[float] = []
        for text in NEUTRAL:
            batch = network.prepare([text])
            log_probs = network.run(batch, edits=edits).logits[0].log_softmax(-1)
            nats += [-float(log_probs[at, token]) for at, token in enumerate(batch.inputs["input_ids"][0, 1:])]
        return float(np.mean(nats))

    after_the_first = Replace(site, lambda value: torch.cat([value[:, :1], value[:, 1:] + vector], 1))
    wanted = max(0.0, loss([after_the_first]) / loss([]) - 1)
    assert off_target(network, site, Shift(zero, vector)) == pytest.approx(wanted, abs=1e-4)
    assert wanted > 0


def test_plans_take_templates_from_both_halves() -> None:
    assert [template.half for template in balanced(occupation_templates(), 4)] == ["A", "A", "B", "B"]
    assert evenly([f"layers.{i}" for i in range(30)], 6) == tuple(f"layers.{i}" for i in (4, 9, 14, 19, 24, 29))
    assert evenly(["a"], 6) == ("a",)
