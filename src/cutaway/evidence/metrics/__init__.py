"""The metrics library: each formula that interpretability papers report, as one small function of numpy arrays.

What enters: numbers that were measured elsewhere (losses, metrics of circuits, codes, judges' replies). What leaves:
one float, or one for each row. What is promised: the formula of the docstring, computed in float64; a hand-computed
case in the tests; :class:`~cutaway.errors.NotTestable` with a sentence (or NaN where the docstring says so) if the
inputs leave the number undefined. No torch.

    reconstruction   explained variance, L0, loss and KL recovered
    circuits         faithfulness, CPR, CMD, k90, completeness, minimality, interchange, causal scrubbing
    edges            exact ROC, precision and recall at a size, Jaccard
    dictionaries     MCC, MMCS, sparse probing, absorption, SCR, TPP, RAVEL
    labels           detection, fuzzing, simulation
    attribution      which gradient meets which difference; position-correct means
"""

from cutaway.evidence.metrics.attribution import AtSite, node_attribution, position_mean
from cutaway.evidence.metrics.circuits import (
    SIZES,
    causal_scrubbing,
    cmd,
    completeness,
    cpr,
    faithfulness,
    faithfulness_curve,
    interchange_accuracy,
    k90,
    minimality,
)
from cutaway.evidence.metrics.dictionaries import (
    AbsorptionTerms,
    absorption_fraction,
    absorption_terms,
    mcc,
    mmcs,
    ravel,
    scr,
    sparse_probing,
    sparse_probing_latents,
    tpp,
)
from cutaway.evidence.metrics.edges import (
    PrecisionRecall,
    RocCurve,
    edge_auroc,
    edge_roc,
    jaccard,
    mean_jaccard,
    precision_recall,
)
from cutaway.evidence.metrics.labels import (
    LabelScores,
    Reply,
    label_scores,
    label_scores_by_scorer,
    simulation_correlation,
)
from cutaway.evidence.metrics.reconstruction import (
    explained_variance,
    kl_divergence,
    kl_recovered,
    l0,
    loss_recovered,
)

__all__ = [
    "SIZES",
    "AbsorptionTerms",
    "AtSite",
    "LabelScores",
    "PrecisionRecall",
    "Reply",
    "RocCurve",
    "absorption_fraction",
    "absorption_terms",
    "causal_scrubbing",
    "cmd",
    "completeness",
    "cpr",
    "edge_auroc",
    "edge_roc",
    "explained_variance",
    "faithfulness",
    "faithfulness_curve",
    "interchange_accuracy",
    "jaccard",
    "k90",
    "kl_divergence",
    "kl_recovered",
    "l0",
    "label_scores",
    "label_scores_by_scorer",
    "loss_recovered",
    "mcc",
    "mean_jaccard",
    "minimality",
    "mmcs",
    "node_attribution",
    "position_mean",
    "precision_recall",
    "ravel",
    "scr",
    "simulation_correlation",
    "sparse_probing",
    "sparse_probing_latents",
    "tpp",
]
