"""Detectors on whole networks: compiled ones with a known head, tiny ones of every kind, smollm2."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cutaway
from cutaway.errors import BadInput, NotTestable
from cutaway.features.heads import DETECTORS, HeadReport, HeadScores, detect_heads, draw_heads
from cutaway.features.heads.neuron_weights import (
    antipodal_pairs,
    logit_spread,
    opposite_rows,
    output_neurons,
    shape_of_effects,
)
from cutaway.features.heads.neurons import Rules, followed, rules_for
from cutaway.networks.compiled import compiled
from tests.networks.test_anatomy import made
from tests.networks.tiny import vit

SMALL = {"sequences": 4, "length": 8}


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3", "gemma2", "gpt_neox"])
def test_every_head_of_a_causal_model_has_its_scores(name: str) -> None:
    report = detect_heads(made(name), **SMALL)
    assert [(each.layer, each.head) for each in report.heads] == [
        (layer, head) for layer in (0, 1) for head in range(4)
    ]
    for each in report.heads:
        known = {name for name in DETECTORS if each.score(name) is not None}
        assert known == {"induction", "previous_token", "duplicate_token", "copying", "bos_sink", "positional"}
        for detector in known:
            score = each.score(detector)
            assert score is not None and np.isfinite([score.value, score.null_mean, score.null_std, score.p]).all()
            assert 0 < score.p <= 1
    assert report.to_json() == detect_heads(made(name), **SMALL).to_json(), "same seed, same numbers"


def test_encoders_are_asked_what_applies() -> None:
    first = detect_heads(made("bert"), **SMALL).heads[0]
    assert first.induction is None and first.copying is None and first.successor is None
    assert first.next_token is not None and first.duplicate_token is not None and first.to_json()["induction"] is None


def test_images_are_not_testable() -> None:
    with pytest.raises(NotTestable):
        detect_heads(cutaway.wrap(vit()))


def test_the_heads_of_a_compiled_program_are_what_they_were_compiled_to_be() -> None:
    """Induction is two heads: the first looks one back, the second at what came after this token the last time."""
    report = detect_heads(compiled("induction").network, sequences=8)
    first, second = report.heads
    assert first.previous_token is not None and first.previous_token.value > 0.95
    assert second.induction is not None and first.induction is not None
    assert second.induction.value > 0.95 and second.induction.p < 0.05 and second.induction.null_mean < 0.1
    assert first.induction.value < 0.05 and second.subword_merge is None


def test_a_planted_previous_token_head() -> None:
    """GPT-2 whose head 0.1 matches position i with position i - 1, by rotating position codes."""
    network = made("gpt2")
    angles = torch.arange(1024)[:, None] * torch.tensor([0.4, 0.13])
    codes = torch.cat([angles.cos(), angles.sin()], 1)
    turn = torch.tensor([0.4, 0.13])
    step = torch.cat([torch.cat([turn.cos().diag(), turn.sin().diag()], 1),
                      torch.cat([-turn.sin().diag(), turn.cos().diag()], 1)])  # fmt: skip
    module = network.module
    with torch.no_grad():
        module.transformer.wte.weight[:, :8] = 0
        module.transformer.wpe.weight.zero_()
        module.transformer.wpe.weight[:, :4] = 3 * codes
        module.transformer.wpe.weight[:, 4:8] = -3 * codes  # mean 0: centring takes nothing away
        norm, maps = module.transformer.h[0].ln_1, module.transformer.h[0].attn.c_attn
        norm.weight.fill_(1)
        norm.bias.zero_()
        maps.weight[:, 4:8] = 0  # head 1's queries and keys
        maps.weight[:, 20:24] = 0
        maps.bias[4:8] = 0
        maps.bias[20:24] = 0
        maps.weight[:4, 4:8] = 60 * step.T
        maps.weight[:4, 20:24] = torch.eye(4)
    report = detect_heads(network, sequences=6, length=8)
    assert report.strongest("previous_token", 1)[0].name == "0.1"
    best = report.heads[1]
    assert best.previous_token is not None and best.previous_token.value > 0.8 and best.previous_token.p < 0.05
    assert best.positional is not None and best.positional.value > 0.8
    assert best.induction is not None and best.induction.value < 0.2


def test_rules_find_planted_neurons() -> None:
    texts = [["The", " quick", " Fox", " 9", " jumps", "ing", ".", " Over"] * 5]
    rules = rules_for(texts, list(range(40)))
    generator = torch.Generator().manual_seed(0)
    activations = torch.randn(40, 40, generator=generator)
    capital = rules.holds[rules.names.index("starts with a capital")].float()
    before = torch.tensor([0.0, *rules.holds[rules.names.index("punctuation")].float().tolist()[:-1]])
    activations[:, 7], activations[:, 9] = 2 * capital + 1, -before
    found = followed(activations, rules, [(0, k) for k in range(40)], count=1)
    by_family = {each.family: each for each in found}
    assert (by_family["spelling"].neuron, by_family["spelling"].rule) == (7, "starts with a capital")
    assert by_family["spelling"].score.value == pytest.approx(1.0, abs=1e-5)
    assert (by_family["previous_token"].neuron, by_family["previous_token"].rule) == (9, "punctuation")
    assert by_family["previous_token"].score.value == pytest.approx(-1.0, abs=1e-5)


def test_noise_follows_no_rule() -> None:
    holds = torch.rand(6, 300, generator=torch.Generator().manual_seed(1)) < 0.3
    rules = Rules(("spelling",) * 6, tuple("abcdef"), holds)
    noise = torch.randn(300, 50, generator=torch.Generator().manual_seed(2))
    assert followed(noise, rules, [(0, k) for k in range(50)], count=1)[0].score.p > 0.05


def test_rules_need_some_tokens() -> None:
    with pytest.raises(BadInput, match="too few"):
        rules_for([["a", "b"]], [0, 1])


def test_effects_and_spread_by_hand() -> None:
    skew, kurtosis = shape_of_effects(torch.tensor([[1.0, -1.0, 1.0, -1.0], [9.0, 0.0, 0.0, 0.0]]))
    assert skew[0] == 0 and kurtosis[0] == pytest.approx(-2.0) and skew[1] > 1
    gram = torch.diag(torch.tensor([3.0, 1.0]))
    assert logit_spread(torch.tensor([[2.0, 0.0], [0.0, 5.0]]), gram).tolist() == [1.5, 0.5]


def test_opposite_rows_by_hand() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-2.0, 0.0], [1.0, 1.0]])
    best = opposite_rows(rows, 2)
    assert best[0] == (pytest.approx(-1.0), 0, 2) and best[1][1:] == (2, 3)


def test_planted_neurons_are_found_by_their_weights() -> None:
    network = made("llama")
    mlp = network.module.get_submodule("model.layers.1.mlp")
    head = network.module.get_submodule("lm_head")
    with torch.no_grad():
        mlp.gate_proj.weight[20] = -3 * mlp.gate_proj.weight[4]
        frame = torch.linalg.qr(torch.randn(50, 16, generator=torch.Generator().manual_seed(0))).Q
        head.weight.copy_(frame - frame.mean(0))
        head.weight[:, 5] = 0  # nobody answers along this direction: an entropy neuron writes there
        mlp.down_proj.weight[:, 8] = 0
        mlp.down_proj.weight[5, 8] = 50.0
    network = type(network)(**{**vars(network), "_cache": {}})
    pair = antipodal_pairs(network, count=1)[0]
    assert (pair.layer, pair.first, pair.second) == (1, 4, 20)
    assert pair.reads.value == pytest.approx(-1.0, abs=1e-5) and pair.reads.p == pytest.approx(0.05)
    entropy = next(each for each in output_neurons(network, count=1) if each.family == "entropy")
    assert (entropy.layer, entropy.neuron) == (1, 8) and entropy.score.value == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "gemma2", "qwen3"])
def test_neurons_of_other_architectures(name: str) -> None:
    network = made(name)
    assert len(antipodal_pairs(network, count=3)) == 3
    assert {each.family for each in output_neurons(network, count=1)} <= {"prediction", "suppression", "entropy"}


def test_the_picture(tmp_path: Path) -> None:
    report = detect_heads(made("llama"), **SMALL)
    path = draw_heads(report, tmp_path / "new" / "heads.png")
    with Image.open(path) as image:
        assert min(image.size) > 200 and len(image.convert("L").getcolors(1 << 20) or []) > 5
    with pytest.raises(BadInput, match="nothing to draw"):
        draw_heads(HeadReport("x", (HeadScores(0, 0),), 1, 1, 0, 0), tmp_path / "no.png")


@pytest.mark.zoo
def test_the_induction_heads_of_smollm2(zoo: Callable[[str], cutaway.Network]) -> None:
    from cutaway.features.heads.patterns import attention_at, measured
    from cutaway.features.heads.tokens import repeated_tokens

    network = zoo("smollm2-135m")
    shown = repeated_tokens(network, count=4, length=32)
    scores = measured(network, shown.repeated, [lambda pattern: attention_at(pattern, 31, 33)])[0].mean(0)
    order = [(int(k) // 9, int(k) % 9) for k in scores.argsort(descending=True)[:10]]
    assert order[0] == (18, 6) and float(scores.max()) > 0.85
    assert {(17, 3), (17, 4), (18, 7), (23, 2)} <= set(order)
