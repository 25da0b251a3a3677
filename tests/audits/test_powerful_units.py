"""Powerful units: the screening is what it says, a planted unit is found, equal units are not told apart."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import cutaway
from cutaway.atlas import Atlas
from cutaway.audits.effects import change, sampled_log_likelihood
from cutaway.audits.powerful_units import PowerfulUnits
from cutaway.audits.rules import PROFILES, AuditContext
from cutaway.audits.unit_effects import ablate_each, beyond_random, choose, screen
from cutaway.networks.network import Batch
from cutaway.networks.sites import Address
from cutaway.stimuli import Stimulus, StimulusSet, content_id
from tests.networks.tiny import transformer

PROFILE = dataclasses.replace(PROFILES["quick"], units=8, random_units=40)


def vectors(count: int = 40, width: int = 6) -> StimulusSet:
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(count, width, generator=generator)
    return StimulusSet(
        "vectors",
        [Stimulus(content_id(row.numpy().tobytes()), "tensor", f"{i}", lambda r=row: r) for i, row in enumerate(rows)],
    )


def classifier(planted: int | None = None, hidden: int = 64) -> cutaway.Network:
    """One hidden layer of equally strong units; ``planted`` speaks thirty times as loud."""
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(6, hidden), nn.ReLU(), nn.Linear(hidden, 4))
    with torch.no_grad():
        module[2].weight.mul_(0.3)
        if planted is not None:
            module[2].weight[:, planted] *= 100
    return cutaway.wrap(module, example=torch.zeros(2, 6), task="classifier")


def check(network: cutaway.Network, tmp_path) -> cutaway.audits.RuleResult:
    context = AuditContext(network, Atlas(tmp_path / "atlas"), vectors(), PROFILE, command="cutaway audit it")
    return PowerfulUnits().check(context)


def test_a_planted_unit_leads(tmp_path) -> None:
    result = check(classifier(planted=17), tmp_path)
    (finding,) = result.findings
    assert finding.location[0] == "1:17" and result.cards[0] == "1:17"
    (table,) = finding.tables
    leader = dict(zip(table.columns, table.rows[0]))
    change = next(value for name, value in leader.items() if name.startswith("change"))
    assert leader["unit"] == "1:17" and change.value > 10 * change.null_mean and leader["q"] <= 0.025
    assert len(finding.controls) == 3


def test_p_beyond_random_by_hand() -> None:
    random_values = np.exp(np.array([-1.0, 0.0, 1.0]))  # logs: mean 0, standard deviation 1
    p = beyond_random(np.exp(np.array([0.0, 2.0 / np.sqrt(3) * 2.919986])), random_values)
    assert p[0] == pytest.approx(0.5) and p[1] == pytest.approx(0.05, abs=1e-5)  # t(2) leaves 5 % above 2.92
    assert beyond_random(np.array([1.0, 2.0]), np.ones(5)).tolist() == [0.5, 0.0]


def test_p_beyond_random_is_uniform_for_one_more_random_unit() -> None:
    draws = np.exp(np.random.default_rng(0).normal(size=(500, 21)))
    p = [float(beyond_random(row[:1], row[1:])[0]) for row in draws]
    assert stats.kstest(p, "uniform").pvalue > 0.05


def test_units_that_are_all_alike(tmp_path) -> None:
    network = classifier()
    with torch.no_grad():
        network.module[0].weight.copy_(network.module[0].weight[:1].expand(64, -1))  # type: ignore[index]
        network.module[0].bias.fill_(0.1)  # type: ignore[index]
        network.module[2].weight.copy_(network.module[2].weight[:, :1].expand(-1, 64))  # type: ignore[index]
    result = check(network, tmp_path)
    assert not result.findings and len(result.not_found) == 1
    assert not result.cards


def test_units_that_stand_out_together(tmp_path) -> None:
    """Twelve units, each three times as loud: none is an outlier alone, all are stronger than random ones."""
    network = classifier()
    with torch.no_grad():
        network.module[2].weight[:, :12] *= 4  # type: ignore[index]
    (finding,) = check(network, tmp_path).findings
    assert finding.effect is not None and finding.effect.p <= 0.025 and finding.effect.low > 0
    assert {int(address.split(":")[1]) for address in finding.location} <= set(range(12))


def test_screening_is_exact_for_a_quadratic_loss() -> None:
    """For a linear readout with a Gaussian likelihood the expected score is |w|^2 (mean - a)^2 / 2."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4, bias=False))
    network = cutaway.wrap(module, example=torch.zeros(2, 3))
    batch = network.prepare(torch.randn(40, 3, generator=torch.Generator().manual_seed(1)))
    estimate = screen(network, [batch], ["1"], seed=0, draws=400)["1"]
    hidden = network.run(batch, capture=["1"])["1"]
    weight = module[2].weight.detach()
    exact = weight.square().sum(0) * (hidden.mean(0) - hidden).square().mean(0) / 2
    torch.testing.assert_close(estimate, exact, rtol=0.05, atol=1e-4)


def test_screening_predicts_the_divergence_of_a_small_ablation() -> None:
    network = classifier()
    batch = network.prepare(torch.randn(64, 6, generator=torch.Generator().manual_seed(1)))
    estimate = screen(network, [batch], ["1"], seed=0, draws=200)["1"]
    addresses = [Address("1", unit) for unit in range(64)]
    measured = torch.tensor(ablate_each(network, [batch], addresses, "mean", 0).means())
    torch.testing.assert_close(estimate, measured.float(), rtol=0.25, atol=2e-4)


def test_random_units_come_from_the_same_sites_and_are_others() -> None:
    scores = {"a": torch.arange(50.0), "b": torch.arange(50.0) / 100}
    top, random_units = choose(scores, 10, 20, seed=0)
    assert {address.site for address in top} == {"a"} and [a.unit for a in top[:3]] == [49, 48, 47]
    assert not set(top) & set(random_units) and {a.site for a in random_units} == {"a"}
    assert len(set(random_units)) == len(random_units) >= 10


def test_change_by_hand() -> None:
    network = cutaway.wrap(nn.Sequential(nn.Linear(2, 2)), task="classifier")
    before, after = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, torch.log(torch.tensor(3.0))]])
    found = change(network, before, after, Batch({}, ("a",)))
    # KL((1/2, 1/2) || (1/4, 3/4)) = ln(2 / sqrt 3)
    assert float(found.amount[0]) == pytest.approx(0.14384, abs=1e-4)
    edges = cutaway.wrap(nn.Sequential(nn.Conv2d(1, 1, 1)), task="edges")
    found = change(
        edges, torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), float(torch.log(torch.tensor(3.0)))), Batch({}, ("a",))
    )
    assert float(found.amount[0]) == pytest.approx(0.14384, abs=1e-4)


def test_change_ignores_padding() -> None:
    network = cutaway.wrap(transformer("llama"))
    ids = torch.randint(0, 50, (2, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, 3:] = 0
    batch = network.prepare({"input_ids": ids, "attention_mask": mask})
    before = network.run(batch).logits
    after = before.clone()
    after[0, 3:] += torch.randn(50, generator=torch.Generator().manual_seed(1))
    assert change(network, before, after, batch).amount.abs().max() < 1e-6


def test_the_sampled_likelihood_has_mean_gradient_zero() -> None:
    """The score function's expectation is zero: what makes its second moment the Fisher information."""
    network = cutaway.wrap(nn.Sequential(nn.Linear(2, 3)), task="classifier")
    logits = torch.tensor([[0.3, -1.0, 2.0]]).repeat(20000, 1).requires_grad_()
    likelihood = sampled_log_likelihood(network, logits, Batch({}, ()), torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(likelihood.sum(), logits)
    assert gradient.mean(0).abs().max() < 0.02


def test_a_language_model(tmp_path) -> None:
    network = cutaway.wrap(transformer("llama"))
    ids = torch.randint(5, 50, (24, 8), generator=torch.Generator().manual_seed(0))
    stimuli = StimulusSet(
        "tokens",
        [Stimulus(content_id(row.numpy().tobytes()), "tensor", f"{i}", lambda r=row: r) for i, row in enumerate(ids)],
    )
    network = dataclasses.replace(network, modality="text")
    batches = [network.prepare(torch.stack([s.load() for s in group])) for group in stimuli.batches(8)]
    scores = screen(network, batches, ["layers.0.mlp", "layers.1.mlp"], seed=0)
    assert set(scores) == {"layers.0.mlp", "layers.1.mlp"} and all(score.shape == (32,) for score in scores.values())
    assert all(bool((score >= 0).all()) and bool(score.sum() > 0) for score in scores.values())


def test_where_nothing_can_be_ablated() -> None:
    reason = PowerfulUnits().applicable(cutaway.wrap(nn.Sequential(nn.Linear(2, 2))))
    assert reason is not None and "nonlinearity" in reason
