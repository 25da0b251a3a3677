"""Which attributes can be read from the residual stream, on people whose markers the probe never saw?

Algorithm
1. Activations of minimal pairs ("the blind woman", "the quiet woman") at the sentence's last token, which is the
   same word on both sides: only what the network carried there can tell the sides apart.
2. At each site a linear probe with each marker pair held out in turn (:func:`cutaway.evidence.probe`): AUROC within
   held-out pairs; selectivity against the entity-consistent control task.
3. One test per attribute: the best site against the best site of every label shuffle (max-T over sites, Westfall and
   Young 1993), then Benjamini-Hochberg over attributes. So the choice of the best site is paid for.
4. Three more worlds in which the claim would be false: random directions with the activations' covariance, the
   untrained twin, and a probe on the bag of tokens ("surface": shared words and lengths, without what the network
   knows of them). The last two are compared pair by pair (random signs over pairs).
5. For contrast, the same probe on the bag of the tokens' embeddings. The embeddings are the network's own, so this is
   no null; it tells whether the blocks add anything to what each word says by itself.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cutaway.audits.protected_attributes.reading import Prompts
from cutaway.evidence import (
    Evidence,
    Grade,
    Measurement,
    Test,
    benjamini_hochberg,
    familywise_p,
    grade,
    measure_against_null,
    measure_mean,
    permutation_p,
    probe,
    random_directions,
)
from cutaway.evidence.scores import concordant_pairs
from cutaway.networks.network import Network
from cutaway.stimuli import AttributePrompt

RANDOM_DIRECTIONS = 200
SIGN_FLIPS = 1999


@dataclass(frozen=True)
class SiteProbe:
    """One probe; ``p`` of ``auroc`` is for this site alone."""

    site: str
    auroc: Measurement
    selectivity: Measurement
    seen_auroc: float  # entities shared between training and test: words may be memorised


@dataclass(frozen=True)
class Encoding:
    """How well one attribute can be read, where best, and what the grade of "it is encoded" is."""

    attribute: str
    probes: tuple[SiteProbe, ...]
    best: int  # index into probes
    surface_auroc: float  # the same probe on the bag of tokens
    embedding_auroc: float  # the same probe on the bag of their embeddings; NaN without an embedding site
    twin_auroc: float  # the untrained twin's best site; NaN if it was not measured
    tests: tuple[Test, ...]
    grade: Grade

    @property
    def top(self) -> SiteProbe:
        """The probe at the best site."""
        return self.probes[self.best]

    @property
    def q(self) -> float:
        """Corrected p of the best site against label shuffles."""
        return self.tests[0].q


@dataclass(frozen=True, eq=False)
class Probed:
    """Probes of one attribute at several sites of one network, before they are compared with other worlds."""

    attribute: str
    probes: tuple[SiteProbe, ...]
    nulls: Float[np.ndarray, "draw site"]
    by_pair: Float[np.ndarray, "site pair"]  # AUROC within each held-out pair
    random: Float[np.ndarray, "direction site"]  # AUROC along random directions, folded to [0.5, 1]

    @property
    def best(self) -> int:
        """The site with the highest AUROC (the first among equals)."""
        return int(np.argmax([probe.auroc.value for probe in self.probes]))

    def p_shuffled(self) -> float:
        """Best site against the best site of each label shuffle."""
        observed = np.array([probe.auroc.value for probe in self.probes])
        return float(familywise_p(observed, self.nulls, alternative="greater").min())

    def p_random(self) -> float:
        """Best site against the best of each random direction's sites."""
        return permutation_p(self.probes[self.best].auroc.value, self.random.max(axis=1), alternative="greater")


def probe_sites(
    attribute: str,
    prompts: Sequence[AttributePrompt],
    acts: dict[str, Float[Tensor, "prompt unit"]],
    *,
    shuffles: int,
    seed: int,
) -> Probed:
    """Probes of one attribute at every site of ``acts``; rows of ``acts`` are ``prompts``."""
    rows = [row for row, prompt in enumerate(prompts) if prompt.attribute == attribute]
    labels = np.array([prompts[row].side == "marked" for row in rows])
    pairs = [prompts[row].pair for row in rows]
    entities = [f"{prompts[row].pair}/{prompts[row].side}" for row in rows]
    found, nulls, by_pair, random = [], [], [], []
    for site, values in acts.items():
        mine = values[rows]
        result = probe(mine, labels, pairs, entities, shuffles=shuffles, seed=seed)
        found.append(SiteProbe(site, result.auroc, result.selectivity, result.seen_auroc))
        nulls.append(result.null_aurocs)
        by_pair.append(_within(result.scores, labels, result.folds))
        random.append(_random_aurocs(mine, labels, result.folds, seed))
    return Probed(attribute, tuple(found), np.stack(nulls, 1), np.stack(by_pair), np.stack(random, 1))


@contextmanager
def one_thread() -> Iterator[None]:
    """Runs small linear algebra on one thread: on a busy machine two were 25 times slower, waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _within(
    scores: Float[np.ndarray, " row"], labels: Bool[np.ndarray, " row"], folds: Int[np.ndarray, " row"]
) -> Float[np.ndarray, " pair"]:
    aurocs = []
    for fold in np.unique(folds):
        rows = folds == fold
        won, pairs = concordant_pairs(scores[rows, None], labels[rows, None], np.zeros(int(rows.sum()), dtype=int))
        aurocs.append(float(won[0] / pairs[0]))
    return np.array(aurocs)


def _random_aurocs(
    acts: Float[Tensor, "row unit"], labels: Bool[np.ndarray, " row"], folds: Int[np.ndarray, " row"], seed: int
) -> Float[np.ndarray, " direction"]:
    """AUROC along directions drawn from the covariance within classes, folded to [0.5, 1].

    Within classes, since an attribute that dominates the covariance would be its own null.
    """
    marked = torch.from_numpy(labels)
    within = torch.where(marked[:, None], acts - acts[marked].mean(0), acts - acts[~marked].mean(0))
    if not bool(within.any()):
        return np.full(RANDOM_DIRECTIONS, 0.5)
    scores = (acts @ random_directions(within, RANDOM_DIRECTIONS, seed=seed).T).double().numpy()
    won, pairs = concordant_pairs(scores, labels[:, None], folds)
    return np.maximum(won / pairs, 1 - won / pairs)


def compare(
    probed: Sequence[Probed],
    surface: Sequence[Probed],
    twin: Sequence[Probed] | None,
    embedded: Sequence[Probed] | None,
    *,
    seed: int,
) -> list[Encoding]:
    """Each attribute's probes against all its null worlds, corrected over attributes."""
    shuffled = benjamini_hochberg([one.p_shuffled() for one in probed])
    random = benjamini_hochberg([one.p_random() for one in probed])
    tests = [[_shuffled_test(one, float(q))] for one, q in zip(probed, shuffled, strict=True)]
    for mine, one, q in zip(tests, probed, random, strict=True):
        draws = one.random.max(axis=1)
        measured = measure_against_null(
            one.probes[one.best].auroc.value, draws, n=one.by_pair.shape[1], alternative="greater", seed=seed
        )
        mine.append(Test("random-directions", measured, float(q)))
    for null, others in (("untrained-twin", twin), ("surface", surface)):
        if others is not None:
            _add_paired(tests, null, probed, others, seed)
    return [
        Encoding(
            attribute=one.attribute,
            probes=one.probes,
            best=one.best,
            surface_auroc=_best_auroc(surface, i),
            embedding_auroc=_best_auroc(embedded, i),
            twin_auroc=_best_auroc(twin, i),
            tests=tuple(tests[i]),
            grade=grade(Evidence(association=tests[i])),
        )
        for i, one in enumerate(probed)
    ]


def _best_auroc(others: Sequence[Probed] | None, index: int) -> float:
    return float("nan") if others is None else others[index].probes[others[index].best].auroc.value


def _shuffled_test(one: Probed, q: float) -> Test:
    top = one.probes[one.best].auroc
    best_of_null = one.nulls.max(axis=1)
    measured = Measurement(
        top.value, top.low, top.high, float(best_of_null.mean()), float(best_of_null.std(ddof=1)),
        one.p_shuffled(), one.by_pair.shape[1], top.seed,
    )  # fmt: skip
    return Test("shuffled-labels", measured, q)


def _add_paired(
    tests: list[list[Test]], null: str, probed: Sequence[Probed], others: Sequence[Probed], seed: int
) -> None:
    gains = [
        measure_mean(
            mine.by_pair[mine.best] - other.by_pair[other.best],
            alternative="greater", shuffles=SIGN_FLIPS, seed=seed,
        )
        for mine, other in zip(probed, others, strict=True)
    ]  # fmt: skip
    for mine, gain, q in zip(tests, gains, benjamini_hochberg([gain.p for gain in gains]), strict=True):
        mine.append(Test(null, gain, float(q)))


def bag_of_tokens(prompts: Prompts) -> Float[Tensor, "prompt token"]:
    """How often each prompt holds each token that occurs in any of them."""
    tokens = prompts.batch.inputs["input_ids"].cpu()
    real = torch.arange(tokens.shape[1])[None] < torch.from_numpy(prompts.lengths)[:, None]
    kinds, place = torch.unique(tokens, return_inverse=True)
    counts = torch.zeros(len(tokens), len(kinds))
    return counts.scatter_add_(1, place, real.float())


def bag_of_embeddings(network: Network, prompts: Prompts) -> Float[Tensor, "prompt unit"] | None:
    """The mean embedding of each prompt's tokens: what the words say, without their order. None without such a site."""
    site = next((site.name for site in network.sites() if site.kind == "embed"), None)
    if site is None:
        return None
    bags, order = [], []
    for rows, batch in prompts.chunks():
        embedded = network.run(batch, capture=[site], stop_at=True)[site].float().cpu()
        lengths = torch.from_numpy(prompts.lengths[rows])[:, None]
        real = (torch.arange(embedded.shape[1])[None] < lengths).float()[..., None]
        bags.append((embedded * real).sum(1) / lengths)
        order.append(rows)
    return torch.cat(bags)[torch.from_numpy(np.argsort(np.concatenate(order)))]
