"""Labels of features: words that are predictors, each with its score on stimuli that it was not made from.

What enters: an activity of a site, cut in two halves (:func:`halves`); cases of one half make a label, cases of the
other score it. What leaves: :class:`ScoredLabel`. What is promised: no label without its score; shuffled labels as the
null; what other features fire on as the harder test; replies of language models that failed count as wrong and are
shown; text from stimuli is quoted as data in every prompt.

    cases           positions at which the feature fires, is silent, or only others fire
    deterministic   token sets and shapes, promoted tokens, tuning, clusters of examples
    models, asked   optional language models: an endpoint or a local network
    label           the scores
"""

from cutaway.features.labels.asked import Calls, Worded, ask_for_label, worded_label
from cutaway.features.labels.cases import Case, Cases, cases_of, halves
from cutaway.features.labels.deterministic import (
    PromotedTokens,
    Prototypes,
    TokenSet,
    example_clusters,
    promoted_tokens,
    prototype_label,
    token_set,
    token_shape,
    tuning_label,
)
from cutaway.features.labels.label import Detection, Label, ScoredLabel, detection, score_label
from cutaway.features.labels.models import Answer, Endpoint, LanguageModel, LocalModel, endpoint

__all__ = [
    "Answer",
    "Calls",
    "Case",
    "Cases",
    "Detection",
    "Endpoint",
    "Label",
    "LanguageModel",
    "LocalModel",
    "PromotedTokens",
    "Prototypes",
    "ScoredLabel",
    "TokenSet",
    "Worded",
    "ask_for_label",
    "cases_of",
    "detection",
    "endpoint",
    "example_clusters",
    "halves",
    "promoted_tokens",
    "prototype_label",
    "score_label",
    "token_set",
    "token_shape",
    "tuning_label",
    "worded_label",
]
