"""Evidence for one feature: what excites it, how often, what it does downstream, what it is wired to, how many kinds
of input it answers to.

What enters: a network, an address, stimuli. What leaves: a :class:`FeatureCard`, a frozen value that prints itself in
the terminal, as JSON and as HTML. What is promised: every number that makes a claim is a Measurement with its null;
examples come from all levels of activation, not only the top; the same seed gives the same card; text from stimuli is
escaped wherever it is shown. ``docs/feature-card.md`` explains every number.

Sub-packages: ``tuning/`` (drawings), ``visualize/`` (images that excite), ``heads/`` (attention heads and neurons).
"""

from cutaway.features.card import (
    Distribution,
    Effect,
    Example,
    FeatureCard,
    Outputs,
    Polysemanticity,
    Weights,
    WeightTable,
    page_of,
)
from cutaway.features.collect import collect
from cutaway.features.direct import direct_effect, token_effects, write_vectors
from cutaway.features.edges import EdgeDecision, decompose_edges
from cutaway.features.examples import Counts
from cutaway.features.explain import Effort, explain, explain_many
from cutaway.features.joint_tuning import JointTuning, joint_tuning
from cutaway.features.portrait import Portrait, Preference
from cutaway.features.quilts import Quilt, expected_value_shares, exponential_tail, quilt
from cutaway.features.receptive_field import Box, ReceptiveField, receptive_field

__all__ = [
    "Box",
    "Counts",
    "Distribution",
    "EdgeDecision",
    "Effect",
    "Effort",
    "Example",
    "FeatureCard",
    "JointTuning",
    "Outputs",
    "Polysemanticity",
    "Portrait",
    "Preference",
    "Quilt",
    "ReceptiveField",
    "WeightTable",
    "Weights",
    "collect",
    "decompose_edges",
    "direct_effect",
    "expected_value_shares",
    "explain",
    "explain_many",
    "exponential_tail",
    "joint_tuning",
    "page_of",
    "quilt",
    "receptive_field",
    "token_effects",
    "write_vectors",
]
