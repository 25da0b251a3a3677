"""Stimuli and sets: identity, order, samples, held-out splits, failures on loading."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.errors import BadInput
from cutaway.stimuli import Stimulus, StimulusSet, content_id, file_id


def text(content: str, group: str = "") -> Stimulus:
    return Stimulus(content_id(content), "text", f"test {content}", partial(str, content), group=group)


def numbered(count: int, groups: int = 0) -> StimulusSet:
    return StimulusSet("n", [text(f"text {i}", f"g{i % groups}" if groups else "") for i in range(count)])


def broken(content: str) -> Stimulus:
    def load() -> str:
        raise BadInput(f"{content} is damaged.")

    return Stimulus(content_id(content), "text", content, load)


def test_an_id_is_the_beginning_of_the_sha256_of_the_content(tmp_path):
    # FIPS 180-2, example B.1: SHA-256("abc") = ba7816bf 8f01cfea 414140de ...
    assert content_id("abc") == content_id(b"abc") == "ba7816bf8f01cfea"
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_id(tmp_path / "abc") == "ba7816bf8f01cfea"


def test_a_fingerprint_depends_on_contents_and_order_only():
    a, b = text("a"), text("b")
    assert StimulusSet("x", [a, b]).fingerprint == StimulusSet("y", [a, b]).fingerprint
    assert StimulusSet("x", [a, b]).fingerprint != StimulusSet("x", [b, a]).fingerprint


def test_a_repeated_content_is_skipped_with_its_reason():
    twins = StimulusSet("x", [text("a"), text("b"), text("a")])
    assert len(twins) == 2
    assert [skip.reason for skip in twins.skipped] == ["the same content as test a"]


def test_what_fails_on_loading_is_left_out_and_recorded_once():
    mixed = StimulusSet("x", [text("a"), broken("b"), text("c"), text("d")])
    for _ in range(2):
        assert [[s.load() for s in batch] for batch in mixed.batches(2)] == [["a", "c"], ["d"]]
    assert [(skip.source, skip.reason) for skip in mixed.skipped] == [("b", "b is damaged.")]
    assert len(mixed) == 4


def test_a_loaded_stimulus_reads_its_source_only_once():
    reads = []
    stimulus = Stimulus("0" * 16, "text", "counted", lambda: reads.append(1) or "content")
    loaded = stimulus.loaded()
    assert (loaded.load(), loaded.load(), len(reads)) == ("content", "content", 1)
    assert loaded == stimulus


def test_batches_load_lazily():
    reads = []
    stimuli = [Stimulus(f"{i:016}", "text", "s", lambda i=i: reads.append(i) or "t") for i in range(6)]
    next(StimulusSet("x", stimuli).batches(2))
    assert reads == [0, 1]


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (lambda s: next(s.batches(0)), "A batch of 0 stimuli"),
        (lambda s: s.take(0), "A sample of 0 stimuli"),
        (lambda s: s.split(1.0), "A split of 1.0 was asked for in a set of 9 groups"),
    ],
)
def test_impossible_requests_are_refused(misuse, message):
    with pytest.raises(BadInput, match=message):
        misuse(numbered(9))


def test_a_sample_is_the_same_for_the_same_seed_and_keeps_the_order():
    whole = numbered(50)
    sample = whole.take(10, seed=3)
    assert sample.ids == whole.take(10, seed=3).ids != whole.take(10, seed=4).ids
    places = [whole.ids.index(identity) for identity in sample.ids]
    assert places == sorted(places) and len(places) == 10
    assert whole.take(50) is whole


@given(st.integers(2, 40), st.integers(1, 8), st.floats(0.01, 0.99), st.integers(0, 5))
def test_a_split_is_a_partition_that_keeps_groups_together(count, groups, share, seed):
    whole = numbered(count, groups)
    if min(count, groups) < 2:
        with pytest.raises(BadInput, match="groups"):
            whole.split(share, seed=seed)
        return
    first, rest = whole.split(share, seed=seed)
    assert sorted(first.ids + rest.ids) == sorted(whole.ids)
    assert len(first) > 0 and len(rest) > 0
    assert not {s.group for s in first} & {s.group for s in rest}


def test_a_split_has_the_share_that_was_asked_for():
    first, rest = numbered(100).split(0.7, seed=1)
    assert (len(first), len(rest)) == (70, 30)
