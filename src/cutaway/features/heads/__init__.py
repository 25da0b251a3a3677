"""What attention heads and MLP neurons of a transformer do: detectors, each with its null.

What enters: a network whose family describes its anatomy, and, if wanted, texts. What leaves: :class:`HeadReport` with
the scores of every head, and the neurons that follow a rule, write to few tokens, or come in opposite pairs. What is
promised: a detector that a network cannot be asked is None, not 0; patterns are the network's own; the same seed gives
the same numbers. ``docs/heads.md`` defines every score and its null.
"""

from cutaway.features.heads.detect import detect_heads
from cutaway.features.heads.drawing import draw_heads
from cutaway.features.heads.neuron_weights import AntipodalPair, OutputNeuron, antipodal_pairs, output_neurons
from cutaway.features.heads.neurons import RuleNeuron, rule_neurons
from cutaway.features.heads.patterns import attention_at, offset_share, start_attention
from cutaway.features.heads.report import DETECTORS, NULLS, HeadReport, HeadScores
from cutaway.features.heads.tokens import Repeats, repeated_tokens
from cutaway.features.heads.writes import copying, copying_score, ordinals, successor

__all__ = [
    "DETECTORS",
    "NULLS",
    "AntipodalPair",
    "HeadReport",
    "HeadScores",
    "OutputNeuron",
    "Repeats",
    "RuleNeuron",
    "antipodal_pairs",
    "attention_at",
    "copying",
    "copying_score",
    "detect_heads",
    "draw_heads",
    "offset_share",
    "ordinals",
    "output_neurons",
    "repeated_tokens",
    "rule_neurons",
    "start_attention",
    "successor",
]
