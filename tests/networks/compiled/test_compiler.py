"""The compiler beyond the library: every kind of map, defaults that travel, programs drawn at random, refusals."""

import random

import pytest

import cutaway
from cutaway.errors import BadInput
from cutaway.networks.compiled import (
    Aggregate,
    LinearSequenceMap,
    Map,
    Op,
    Select,
    SelectorWidth,
    SequenceMap,
    compile,
    indices,
    interpret,
    one,
    random_inputs,
    tokens,
)
from tests.networks.compiled.helpers import answers

WORDS = ("a", "b", "c")


def same(key: object, query: object) -> bool:
    return key == query


def holds(program: Op, *, causal: bool = False, max_len: int = 5, inputs: list | None = None) -> None:
    """The compiled program equals its meaning on random inputs."""
    made = compile(program, WORDS, max_len, causal=causal, inputs=["a b c", "b a c", "c"])
    shown = inputs or random_inputs(WORDS, max_len, per_length=12, seed=3)
    for words, found in zip(shown, answers(made.module, shown), strict=True):
        meant = interpret(program, words, causal=causal)
        for a, b in zip(found, meant, strict=True):
            if b is not None:
                assert (a == pytest.approx(float(b), abs=5e-3)) if program.numerical else a == b, (words, found, meant)


is_a = Map(lambda token: int(token == "a"), tokens, to_number=True)
share = Aggregate(Select(tokens, tokens, lambda _key, _query: True), is_a)
before = Aggregate(Select(indices, indices, lambda key, query: key == query - 1), tokens, default="c")
here = SelectorWidth(Select(tokens, tokens, same))
not_b = Map(lambda word: None if word == "b" else word, tokens)
first_after_c = SequenceMap(lambda word, index: 0 if word == "c" else index, before, indices)

PROGRAMS = {
    "the tokens themselves": tokens,
    "a map of tokens": Map({"a": "x", "b": "y", "c": "x"}.get, tokens),
    "a number looked up": Map(lambda number: "many" if number > 0.5 else "few", share),
    "a number to a number": Map(lambda number: number * number - 0.25, share, to_number=True),
    "a number and a word": SequenceMap(lambda number, word: f"{word}{'+' if number >= 0.5 else '-'}", share, tokens),
    "a word and a number": SequenceMap(lambda word, number: number + (word == "b"), tokens, share, to_number=True),
    "a pair of the same": SequenceMap(lambda x, y: x + y, here, here),
    "a sum with signs": LinearSequenceMap(share, here, -2, 0.5),
    "a constant": LinearSequenceMap(one, one, 1, 1.5),
    "a default that is a value": before,
    "a default compared": SelectorWidth(Select(before, before, same)),
    "a default that asks": Aggregate(Select(indices, first_after_c, same), tokens),
    "a default mapped": Map(str.upper, before),
    "a default mapped and counted": SelectorWidth(Select(Map(str.upper, before), Map(str.upper, tokens), same)),
    "a default that asks and is counted": SelectorWidth(
        Select(Aggregate(Select(tokens, before, same), tokens), tokens, same)
    ),
    "a default and its place": SequenceMap(lambda word, index: f"{word}{index}", before, indices),
    "a number with a default": Aggregate(Select(tokens, tokens, lambda key, query: key > query), is_a, default=7),
    "a default number looked up": Map(
        lambda number: number > 3,
        Aggregate(Select(tokens, tokens, lambda key, query: key > query), is_a, default=7),
    ),
    "open positions": not_b,
    "open positions selected": SelectorWidth(Select(not_b, tokens, same)),
    "nothing ever selected": Aggregate(Select(tokens, tokens, lambda _key, _query: False), tokens, default="none"),
}  # fmt: skip


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", PROGRAMS)
def test_each_kind_of_operation_keeps_its_meaning(name: str, causal: bool) -> None:
    holds(PROGRAMS[name], causal=causal)


def random_program(draw: random.Random, depth: int) -> Op:
    """A categorical program; every value is one of a few small numbers or words."""
    if depth == 0:
        return draw.choice([tokens, indices])
    kind = draw.choice(["map", "pair", "width", "shared"])
    x = random_program(draw, depth - 1)
    if kind == "map":
        table = {value: draw.randrange(3) for value in [*WORDS, *range(7)]}
        return Map(table.get, x)
    y = random_program(draw, depth - 1)
    seed = draw.randrange(1000)
    if kind == "pair":
        return SequenceMap(lambda a, b: random.Random(f"{seed}{a}{b}").randrange(3), x, y)
    selector = Select(x, y, lambda a, b: random.Random(f"{seed}{a}{b}").random() < 0.5)
    if kind == "width":
        return SelectorWidth(selector)
    values = Map(lambda value: int(hash_of(seed, value) > 0.5), x, to_number=True)
    return Map(lambda number: number > 0.4, Aggregate(selector, values))


def hash_of(seed: int, value: object) -> float:
    return random.Random(f"{seed}{value}").random()


@pytest.mark.parametrize("seed", range(12))
def test_programs_drawn_at_random_keep_their_meaning(seed: int) -> None:
    draw = random.Random(seed)
    holds(random_program(draw, 3), causal=bool(seed % 2), max_len=5)


def test_operations_run_as_early_as_they_can_and_side_by_side() -> None:
    other = SelectorWidth(Select(tokens, tokens, lambda key, query: key != query))
    made = compile(SequenceMap(lambda x, y: x - y, here, other), WORDS, 4)
    spec = made.module.spec
    assert (spec.num_layers, spec.num_heads) == (2, 2)
    assert [line.split(" ")[0] for line in made.truth.algorithm] == ["L0H0", "L0MLP", "L0H1", "L0MLP", "L1MLP"]
    assert {"L1H0", "L1H1"}.isdisjoint(made.truth.circuit)
    assert compile(Map({"a": 1, "b": 2, "c": 3}.get, tokens), WORDS, 4).truth.true_pairs() == {
        ("embed", "L0MLP"),
        ("L0MLP", "unembed"),
    }


def test_the_example_of_the_front_door() -> None:
    first = Aggregate(Select(indices, indices, lambda key, query: key == 0), tokens)
    made = compile(first, ("a", "b"), 4)
    assert made.module.answer("b a a") == ["b", "b", "b"]
    assert made.truth.true_pairs("resample") == {("embed", "L0H0.v"), ("L0H0", "unembed")}


def test_the_same_program_gives_the_same_weights_and_truth() -> None:
    one_, two = (compile(PROGRAMS["a number and a word"], WORDS, 4) for _ in range(2))
    assert one_.network.fingerprint == two.network.fingerprint
    assert one_.truth == two.truth


def test_what_cannot_be_compiled_is_one_sentence() -> None:
    with pytest.raises(BadInput, match="Keys and queries of a Select must be categorical"):
        Select(share, tokens, same)
    with pytest.raises(BadInput, match="two numerical values"):
        SequenceMap(lambda x, y: x + y, share, share)
    with pytest.raises(BadInput, match="A number was to be made of 'a'"):
        compile(LinearSequenceMap(tokens, tokens, 1, 1), WORDS, 4)
    many = Aggregate(Select(tokens, tokens, same), Map({"a": 0.1, "b": 3.7, "c": 11.3}.get, tokens, to_number=True))
    deeper = LinearSequenceMap(many, many, 1, 31.7)
    with pytest.raises(BadInput, match="different numbers"):
        compile(Map(round, deeper), WORDS, 8)
    for vocab, max_len in (((), 3), (("a", "a"), 3), (("a b",), 3), (("<bos>",), 3), (WORDS, 0), (WORDS, 1000)):
        with pytest.raises(BadInput, match=r"vocabulary must be|greatest length"):
            compile(tokens, vocab, max_len)
    with pytest.raises(BadInput, match="No inputs were given"):
        compile(tokens, WORDS, 3, inputs=[])


def test_a_mean_of_different_words_is_no_value() -> None:
    mean = Aggregate(Select(tokens, tokens, lambda _key, _query: True), tokens)
    assert interpret(mean, ["a", "a"]) == ["a", "a"]
    with pytest.raises(BadInput, match="their mean is no value"):
        interpret(mean, ["a", "b"])


def test_a_compiled_network_is_a_network() -> None:
    network = compile(before, WORDS, 5, name="before").network
    assert isinstance(network, cutaway.Network)
    assert (network.name, network.family, network.task) == ("before", "compiled", "compiled")
    run = network.run(["a b c"], capture=["layers.0.attn.pattern"])
    assert run["layers.0.attn.pattern"][0, 0].argmax(-1).tolist() == [0, 0, 1, 2]
