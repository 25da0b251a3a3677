"""What a theory or finding earned, in one ordered scale with two outcomes beside it."""

from enum import StrEnum


class Verdict(StrEnum):
    """``asserted < observed < causal < mechanistic < verified``, or ``refuted``, or ``not-testable``.

    asserted     somebody says so (a detector's score, a label)
    observed     a held-out association, or an intervention of unknown specificity, that beats its nulls
    causal       an intervention has the claimed effect beyond matched nulls, over most specifications
    mechanistic  a circuit explains the effect and predicts new inputs
    verified     an independent replay and a prediction made in advance both hold
    refuted      the claim was tested and failed
    not-testable the question has no answer on this network
    """

    ASSERTED = "asserted"
    OBSERVED = "observed"
    CAUSAL = "causal"
    MECHANISTIC = "mechanistic"
    VERIFIED = "verified"
    REFUTED = "refuted"
    NOT_TESTABLE = "not-testable"

    @property
    def rank(self) -> int:
        """Place on the scale, 0 (asserted) to 4 (verified); -1 for refuted and not-testable."""
        return _SCALE.index(self) if self in _SCALE else -1

    def at_least(self, other: "Verdict") -> bool:
        """True if both are on the scale and this one is not below ``other``."""
        return self.rank >= 0 and other.rank >= 0 and self.rank >= other.rank


_SCALE = [Verdict.ASSERTED, Verdict.OBSERVED, Verdict.CAUSAL, Verdict.MECHANISTIC, Verdict.VERIFIED]
