"""Networks whose algorithm is known because a program was compiled into them, or because training forced it.

What enters: a program of sequence operations (select, aggregate, map), its vocabulary and greatest length; or a folder
with ``config.json`` and ``weights.safetensors`` of such a network. What leaves: a :class:`Network` like any other, and
the :class:`Truth` about it: every true and every false edge between its parts, what the true ones carry and which
ablations can show them. What is promised: the network equals the program on every input that the program defines; no
false edge changes a bit of the output; folders are read as data only.

    from cutaway.networks.compiled import Aggregate, Select, compile, indices, tokens
    first = Aggregate(Select(indices, indices, lambda key, query: key == 0), tokens)
    compiled = compile(first, vocab=("a", "b"), max_len=4)
    compiled.module.answer("b a a")        # ['b', 'b', 'b']
    compiled.truth.true_pairs("resample")  # {('embed', 'L0H0.v'), ('L0H0', 'unembed')}
"""

from cutaway.networks.compiled.compiler import Compiled, compile, random_inputs
from cutaway.networks.compiled.effects import effects_of, forced_truth, grouped, truth_of
from cutaway.networks.compiled.folder import from_folder, is_compiled, save
from cutaway.networks.compiled.library import TRAINED, Known, ground_truth, named, trained
from cutaway.networks.compiled.module import CompiledTransformer
from cutaway.networks.compiled.parts import Parts, candidate_edges, run_parts
from cutaway.networks.compiled.programs import PROGRAMS, Program, compiled
from cutaway.networks.compiled.rasp import (
    Aggregate,
    LinearSequenceMap,
    Map,
    Op,
    Select,
    SelectorWidth,
    SequenceMap,
    indices,
    interpret,
    one,
    tokens,
)
from cutaway.networks.compiled.spec import Output, Spec, Vocabulary
from cutaway.networks.compiled.truth import ABLATIONS, CARRIES, Component, Effect, TrueEdge, Truth, read_truth

__all__ = [
    "ABLATIONS",
    "CARRIES",
    "PROGRAMS",
    "TRAINED",
    "Aggregate",
    "Compiled",
    "CompiledTransformer",
    "Component",
    "Effect",
    "Known",
    "LinearSequenceMap",
    "Map",
    "Op",
    "Output",
    "Parts",
    "Program",
    "Select",
    "SelectorWidth",
    "SequenceMap",
    "Spec",
    "TrueEdge",
    "Truth",
    "Vocabulary",
    "candidate_edges",
    "compile",
    "compiled",
    "effects_of",
    "forced_truth",
    "from_folder",
    "ground_truth",
    "grouped",
    "indices",
    "interpret",
    "is_compiled",
    "named",
    "one",
    "random_inputs",
    "read_truth",
    "run_parts",
    "save",
    "tokens",
    "trained",
    "truth_of",
]
