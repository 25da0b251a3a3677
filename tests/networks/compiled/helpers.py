"""What the tests of compiled networks share: answers in batches, a small random network, a hand-made one."""

from collections.abc import Sequence

import torch

from cutaway.networks.compiled import CompiledTransformer, Output, Spec


def answers(module: CompiledTransformer, inputs: Sequence[Sequence[str]]) -> list[list]:
    """The network's answers, inputs of one length run together."""
    found: dict[int, list] = {}
    for length in {len(words) for words in inputs}:
        rows = [row for row, words in enumerate(inputs) if len(words) == length]
        ids = torch.tensor([module.spec.vocabulary.encode(inputs[row]) for row in rows])
        with torch.no_grad():
            logits = module(ids)
        found |= {row: module.spec.output.decode(each[1:]) for row, each in zip(rows, logits)}
    return [found[row] for row in range(len(inputs))]


def spec(**changes: object) -> Spec:
    """A small causal language model of four words."""
    vocab = ("a", "b", "c", "<bos>")
    sizes = {"d_model": 12, "num_layers": 2, "num_heads": 3, "key_size": 4, "mlp_hidden": 10}
    return Spec(
        **{  # type: ignore[arg-type]
            "name": "random",
            "vocab": vocab,
            "bos_id": 3,
            "max_len": 6,
            "causal": True,
            "output": Output("categorical", vocab),
            "task": "causal-lm",
            **sizes,
            **changes,
        }
    )


def random_module(**changes: object) -> CompiledTransformer:
    """Random weights everywhere, biases too."""
    module = CompiledTransformer(spec(**changes))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return module.eval()
