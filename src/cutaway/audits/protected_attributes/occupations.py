"""The pronoun gap of nouns, at the output: log p(he) - log p(she) after "The nurse said that".

For occupations the gap is a stereotype, and is compared with the share of women in the occupation. For nouns that
mean a gender (king, queen) it is knowledge of language; those are measured in the same way and kept apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cutaway.audits.protected_attributes.reading import Progress, read, tokenized
from cutaway.errors import NotTestable
from cutaway.evidence import Measurement, measure_mean, measure_spearman
from cutaway.networks.network import Network
from cutaway.stimuli import DefinitionalPair, NounTemplate, Occupation, pronouns, single_token

#: The occupations of the plain check: the first three against the last three.
PLAIN_CHECK = (("nurse", "librarian", "teacher"), ("carpenter", "CEO", "mechanic"))
FLOOR = 0.01  # share of the next-token probability that he and she must have together


@dataclass(frozen=True, eq=False)
class Gaps:
    """log p(he) - log p(she) in nats, and p(he) + p(she), for each noun in each template."""

    nouns: tuple[str, ...]
    gap: Float[np.ndarray, "noun template"]
    mass: Float[np.ndarray, "noun template"]

    def of(self, noun: str) -> Float[np.ndarray, " template"]:
        """One noun's gaps."""
        return self.gap[self.nouns.index(noun)]

    def measured(self, noun: str, seed: int = 0) -> Measurement:
        """One noun's mean gap over templates; null: the gap has a random sign in each template."""
        return measure_mean(self.of(noun), seed=seed)


def pronoun_words(network: Network) -> tuple[int, int]:
    """Token ids of " he" and " she"; :class:`NotTestable` if the tokenizer splits or does not know them."""
    words = pronouns()
    found = known_tokens(network, [words["male"], words["female"]])
    if len(set(found.values())) < 2:
        raise NotTestable("The tokenizer writes ' he' or ' she' in more than one token or not at all.")
    return found[words["male"]], found[words["female"]]


def known_tokens(network: Network, words: Sequence[str]) -> dict[str, int]:
    """The words that are one token each, other than the tokenizer's unknown token."""
    unknown = getattr(network.tokenizer, "unk_token_id", None)
    known = set(special) if (special := getattr(network.tokenizer, "all_special_ids", None)) else set()
    found = single_token(network.tokenizer, words)
    return {word: token for word, token in found.items() if token != unknown and token not in known}


def pronoun_gaps(
    network: Network,
    nouns: Sequence[str],
    templates: Sequence[NounTemplate],
    progress: Progress | None = None,
) -> Gaps:
    """The gap of every noun in every template."""
    he, she = pronoun_words(network)
    texts = [template.fill(noun) for noun in nouns for template in templates]
    log_probs = read(network, tokenized(network, texts), words=(he, she), progress=progress).log_probs
    assert log_probs is not None
    shaped = log_probs.reshape(len(nouns), len(templates), 2)
    return Gaps(tuple(nouns), shaped[..., 0] - shaped[..., 1], np.exp(shaped).sum(-1))


def alignment(gaps: Gaps, occupations: Sequence[Occupation], *, shuffles: int, seed: int) -> Measurement:
    """Spearman correlation of the lean to "she" (minus the gap) with the share of women, over occupations.

    +1: the occupations with more women lean more to "she". Null: occupations exchange their statistics.
    """
    women = [occupation.women_percent for occupation in occupations]
    lean = [-float(gaps.of(occupation.name).mean()) for occupation in occupations]
    if np.ptp(lean) == 0:
        raise NotTestable("Every occupation has the same pronoun gap, so there is nothing to correlate.")
    return measure_spearman(lean, women, shuffles=shuffles, seed=seed)


def plain_check(gaps: Gaps, seed: int) -> Measurement:
    """Mean gap of nurse, librarian, teacher minus that of carpenter, CEO, mechanic, paired by template, in nats."""
    first, second = (np.mean([gaps.of(noun) for noun in nouns], axis=0) for nouns in PLAIN_CHECK)
    return measure_mean(first - second, seed=seed)


def definitional_gap(gaps: Gaps, pairs: Sequence[DefinitionalPair], seed: int) -> Measurement:
    """Mean gap of the male noun minus that of the female noun over definitional pairs, in nats."""
    differences = [float((gaps.of(pair.male) - gaps.of(pair.female)).mean()) for pair in pairs]
    return measure_mean(differences, seed=seed)
