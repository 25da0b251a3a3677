"""What an unfolded network still does, against hand-made cases and the metrics library."""

import math

import numpy as np
import pytest
import torch

from cutaway.bases.unfolding import compare, task_accuracy, unfold
from cutaway.bases.unfolding.behaviour import token_terms
from cutaway.bases.unfolding.showing import batches, entities_of
from cutaway.bases.unfolding.sums import Sums, ratio
from cutaway.errors import BadInput, NotTestable
from cutaway.evidence.metrics import kl_divergence
from cutaway.networks import Network, Replace, wrap
from cutaway.stimuli import Stimulus, StimulusSet
from cutaway.stimuli.tasks import TaskPair, TaskSet
from tests.bases.unfolding.planted import language, perfect, pictures, rough, texts, vision


def test_errors_added_back_give_the_original() -> None:
    network = language()
    unfolded = unfold(network, [rough(network, "layers.0.mlp_out"), rough(network, "layers.1.resid", seed=1)])
    batch = network.prepare(texts(4))
    original, without = network.run(batch).logits, unfolded.run(batch).logits
    assert batch.mask is not None
    back = unfolded.with_errors(batch).logits
    assert torch.allclose(back[batch.mask], original[batch.mask], atol=1e-4)
    assert float((without - original)[batch.mask].abs().max()) > 0.1, "the errors matter"
    errors = unfolded.errors(batch)
    halved = {name: value / 2 for name, value in errors.items()}
    assert not torch.allclose(unfolded.with_errors(batch, halved).logits[batch.mask], original[batch.mask], atol=1e-2)


def test_terms_of_two_words_by_hand() -> None:
    clean, changed = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0]])
    n, loss, original, kl, agree, right, right_original = token_terms(clean, changed, torch.tensor([0]))
    assert (n, agree, right, right_original) == (1, 1, 1, 1)
    assert loss == pytest.approx(math.log(4 / 3)) and original == pytest.approx(math.log(2))
    assert kl == pytest.approx(0.5 * math.log(2 / 3) + 0.5 * math.log(2))


def test_kl_is_that_of_the_metrics_library() -> None:
    a, b = torch.randn(2, 30, 50, generator=torch.Generator().manual_seed(0)).unbind()
    wanted = kl_divergence(a.numpy(), b.numpy())
    assert token_terms(a, b, torch.zeros(30, dtype=torch.long))[3] / 30 == pytest.approx(wanted, rel=1e-5)


def test_a_perfect_basis_changes_nothing_and_a_rough_one_does() -> None:
    network = language()
    same = unfold(network, perfect(network, "layers.1.resid")).behaviour(texts())
    worse = unfold(network, rough(network, "layers.1.resid")).behaviour(texts())
    for found in (same, worse):
        assert found.loss is not None and found.loss_original is not None and found.kl is not None
        assert found.agreement is not None and found.accuracy is not None and found.kl.n == 10
    assert same.agreement.value == 1 and same.kl.value < 1e-9 and same.loss.value == same.loss_original.value
    assert worse.kl.value > 0.05 and worse.agreement.value < 1 and worse.kl.low < worse.kl.value < worse.kl.high
    assert same.output_kept is None and same.to_json()["edges_kept"] is None


def test_loss_is_of_the_next_real_token_whatever_the_padding() -> None:
    rows = []
    for side in ("right", "left"):
        network = language(side)
        alone = [unfold(network, perfect(network, "embed")).behaviour([text]) for text in texts(4)]
        together = unfold(network, perfect(network, "embed")).behaviour(texts(4))
        tokens = np.array([len(text.split()) for text in texts(4)], dtype=float)  # one fewer than with the first token
        losses = [each.loss.value for each in alone if each.loss is not None]
        assert together.loss is not None
        assert together.loss.value == pytest.approx(np.average(losses, weights=tokens), rel=1e-4)
        rows.append(together.loss.value)
    assert rows[0] == pytest.approx(rows[1], rel=1e-3)


def test_texts_are_cut_to_their_first_tokens() -> None:
    for side in ("right", "left"):
        network = language(side)
        (shown,) = batches(network, ["w3 w4 w5 w6 w7 w8", "w9 w10"], max_tokens=4)
        tokens, mask = shown.batch.inputs["input_ids"], shown.batch.mask
        assert mask is not None
        assert [row[real].tolist() for row, real in zip(tokens, mask)] == [[1, 3, 4, 5], [1, 9, 10]]


def test_texts_are_cut_to_what_the_network_takes() -> None:
    network = language()  # 64 positions
    (shown,) = batches(network, [" ".join(["w5"] * 90)], max_tokens=128)
    assert shown.batch.inputs["input_ids"].shape == (1, 64)


def halving(network: Network) -> Network:
    """The same network with half of what is at relu."""
    edit = Replace("relu", lambda value: value / 2)

    class Halved(type(network.module)):
        pass

    module = Halved()
    module.load_state_dict(network.module.state_dict())
    module.relu.register_forward_hook(lambda _m, _a, out: edit.apply(out, network.site("relu")))
    return network.with_module(module, "halved")


def test_share_of_the_edge_map_kept_by_hand() -> None:
    network = vision()
    found = compare(network, {"halved": halving(network)}, pictures(5))["halved"]
    clean = network.run(pictures(5)).logits.double()
    bias = float(network.module.late.bias.detach())
    changed = (clean - bias) / 2 + bias
    share = 1 - float((clean - changed).square().mean() / clean.var(correction=0))
    assert found.output_kept is not None and found.output_kept.value == pytest.approx(share, abs=1e-6)
    edges = 1 - float((clean.sigmoid() - changed.sigmoid()).square().mean() / clean.sigmoid().var(correction=0))
    assert found.edges_kept is not None and found.edges_kept.value == pytest.approx(edges, abs=1e-6)
    assert found.kl is None and found.output_kept.n == 5


class Two(torch.nn.Module):
    """Two classes: the sign of the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.part = torch.nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.part(x.flatten(1).mean(1, keepdim=True))
        return torch.cat([mean, -mean], 1)


def test_classifiers_by_hand() -> None:
    network = wrap(Two(), name="two", task="classifier", example=torch.zeros(1, 2))
    stimuli = [torch.tensor([value, value]) for value in (1.0, 2.0, -1.0, -3.0)]
    flipped = network.with_module(Two(), "flipped")
    flipped.module.part.register_forward_hook(lambda _m, _a, out: torch.where(out > 1.5, -out, out))
    found = compare(network, {"flipped": flipped}, stimuli, labels=lambda stimulus: int(stimulus.load()[0] < 0))
    assert found["flipped"].agreement is not None and found["flipped"].agreement.value == 0.75
    assert found["flipped"].accuracy is not None and found["flipped"].accuracy.value == 0.75
    assert found["flipped"].accuracy_original is not None and found["flipped"].accuracy_original.value == 1
    assert compare(network, {"flipped": flipped}, stimuli)["flipped"].accuracy is None, "no labels, no accuracy"


def test_task_accuracy_of_both_networks() -> None:
    network = language()
    prompts = [f"w{a} w{b}" for a, b in zip(range(5, 17), range(30, 42))]
    logits = [network.run([prompt], logits="last").logits[0, 0] for prompt in prompts]
    rising = [int(each[40] > each[41]) for each in logits]
    pairs = tuple(TaskPair(prompt, "w3 w4", " w40", " w41", group=prompt) for prompt in prompts)
    found = task_accuracy(unfold(network, perfect(network, "layers.1.resid")), TaskSet("pick", "test", "a", pairs))
    assert found.original.value == found.unfolded.value == pytest.approx(np.mean(rising))
    assert 0 < found.original.value < 1 and found.original.n == 12
    with pytest.raises(NotTestable, match="no language model"):
        task_accuracy(unfold(vision(), perfect(vision(), "relu")), TaskSet("pick", "test", "a", pairs))


def test_sums_and_their_interval_resample_entities() -> None:
    sums = Sums(("a", "n"))
    for entity in range(40):
        for _ in range(25):  # rows of one entity are alike: they count once
            sums.add(str(entity), float(entity % 2), 1)
    found = ratio(sums, "a", "n")
    assert found.value == 0.5 and found.n == 40 and 0.28 < found.high - found.low < 0.34  # 2 * 1.96 * 0.5 / sqrt(40)


def test_entities_of_texts_and_pictures() -> None:
    def of(kind: str, groups: list[str]) -> int:
        made = [Stimulus(f"{row}", kind, "", lambda: "", group=group) for row, group in enumerate(groups)]  # type: ignore[arg-type]
        return len(set(entities_of(StimulusSet("s", made)).values()))

    assert of("text", ["one"] * 9) == 9, "passages of one corpus"
    assert of("text", [str(row // 2) for row in range(18)]) == 9
    assert of("image", ["a", "a", "b"]) == 2


def test_nothing_to_compare() -> None:
    network = language()
    with pytest.raises(BadInput, match="empty"):
        unfold(network, perfect(network, "embed")).behaviour([])
    with pytest.raises(BadInput, match="no next token"):
        unfold(network, perfect(network, "embed")).behaviour([""])
