"""Observing a network: what is run, what is kept, what is repaired, what is refused."""

import logging

import pytest
import torch

from cutaway.atlas import Atlas, ResultRecord
from cutaway.errors import AtlasMismatch, BadInput, DamagedArray, UnknownName
from cutaway.networks import wrap
from cutaway.observe import Moments, Observation, Top, observe, stored_observations
from cutaway.stimuli import Stimulus, StimulusSet
from tests.observe.small import ALL, network, stimuli, tensor_stimulus

SITE = "relu"


def states(observation: Observation) -> dict[tuple[str, str], dict[str, torch.Tensor]]:
    rows = observation.atlas.observations.results(observation.id)
    return {(row.site, row.reducer): observation.atlas.get_arrays(row.array_hash) for row in rows}


def assert_equal(one: Observation, other: Observation) -> None:
    left, right = states(one), states(other)
    assert left.keys() == right.keys()
    for pair in left:
        assert left[pair].keys() == right[pair].keys()
        assert all(torch.equal(left[pair][key], right[pair][key]) for key in left[pair]), pair


def test_results_are_those_of_the_activations(tmp_atlas: Atlas) -> None:
    net, shown = network(), stimuli(21)
    observation = observe(net, shown, sites=[SITE], atlas=tmp_atlas, reducers=ALL, batch_size=4)
    acts = torch.cat([net.run(torch.stack([s.load()]), capture=[SITE])[SITE] for s in shown]).flatten(2)
    assert (observation.seen, observation.skipped, observation.batches_run) == (21, 0, 6)
    moments = observation.result(SITE, "moments")
    assert moments.count == 21 * 64
    torch.testing.assert_close(moments.mean, acts.double().mean((0, 2)), rtol=1e-5, atol=1e-6)
    best = observation.result(SITE, "top").examples(3)[0]
    assert best.value == pytest.approx(float(acts[:, 3].max()), rel=1e-6)  # a batch of one is added in another order
    assert best.stimulus == shown.ids[int(acts[:, 3].amax(1).argmax())]
    assert observation.result(SITE, "coactivation").positions == 21 * 64
    assert {row.reducer for row in tmp_atlas.observations.results(observation.id)} == set(ALL)


def test_passes_stop_after_the_last_site(tmp_atlas: Atlas) -> None:
    net = network()
    observe(net, stimuli(8), sites=[SITE], atlas=tmp_atlas, batch_size=4)
    assert (net.module.passes, net.module.late_passes) == (2, 0)


def test_the_same_call_runs_nothing(tmp_atlas: Atlas) -> None:
    net = network()
    first = observe(net, stimuli(8), sites=[SITE], atlas=tmp_atlas)
    passes = net.module.passes
    again = observe(net, stimuli(8), sites=[SITE], atlas=tmp_atlas, batch_size=3)
    assert net.module.passes == passes
    assert (again.id, again.batches_run, again.seen) == (first.id, 0, 8)
    assert_equal(first, again)
    [stored] = stored_observations(tmp_atlas, site=SITE)
    assert stored.id == first.id
    assert stored.result(SITE, "top").examples(0) == first.result(SITE, "top").examples(0)
    assert stored_observations(tmp_atlas, site="other") == []


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"sites": ["conv"]}, {"reducers": ["top"]}, {"reducers": [Top(k=3)]}, {"names": 9}],
)
def test_another_question_is_another_observation(tmp_atlas: Atlas, change: dict) -> None:
    asked = {"sites": [SITE], "atlas": tmp_atlas, "reducers": [Top(), "moments"], "names": 8}

    def ask(**options) -> str:
        return observe(network(), stimuli(options.pop("names")), **options).id

    assert ask(**asked) != ask(**{**asked, **change})


def test_finished_observations_leave_no_shards(tmp_atlas: Atlas) -> None:
    observation = observe(network(), stimuli(40), sites=[SITE], atlas=tmp_atlas, batch_size=1)
    assert tmp_atlas.observations.shards(observation.id) == []
    assert len(list((tmp_atlas.path / "arrays").rglob("*.safetensors"))) == 5
    assert tmp_atlas.check() == []


def test_an_interrupted_observation_goes_on(tmp_atlas: Atlas, tmp_path) -> None:
    net, shown = network(), stimuli(40)

    def interrupt(done: int, _total: int) -> None:
        if done == 21:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        observe(net, shown, sites=[SITE], atlas=tmp_atlas, batch_size=1, progress=interrupt)
    assert stored_observations(tmp_atlas) == []
    shards = tmp_atlas.observations.shards(tmp_atlas.observations.all()[0].id)
    assert [shard.batch_count for shard in shards] == [16, 1, 1, 1, 1, 1], "sixteen have become one"
    resumed = observe(net, shown, sites=[SITE], atlas=tmp_atlas, batch_size=7)
    assert resumed.batches_run == 19
    assert net.module.passes == 40
    with Atlas(tmp_path / "straight") as other:
        assert_equal(resumed, observe(network(), shown, sites=[SITE], atlas=other, batch_size=1))


def test_a_rerun_may_use_smaller_passes(tmp_atlas: Atlas) -> None:
    net, shown = network(), stimuli(16)

    def interrupt(done: int, _total: int) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        observe(net, shown, sites=[SITE], atlas=tmp_atlas, batch_size=8, progress=interrupt)
    resumed = observe(net, shown, sites=[SITE], atlas=tmp_atlas, batch_size=2)
    assert (resumed.seen, resumed.batches_run, net.module.passes) == (16, 1, 1 + 4)


def test_progress_counts_stimuli(tmp_atlas: Atlas) -> None:
    seen: list[tuple[int, int]] = []
    observe(network(), stimuli(5), sites=[SITE], atlas=tmp_atlas, batch_size=2, progress=lambda *n: seen.append(n))
    assert seen[:3] == [(2, 5), (4, 5), (5, 5)]
    assert seen[-1] == (5, 5)


def _cut(path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [_cut, lambda path: path.unlink()])
def test_a_damaged_result_is_named_and_recomputed(tmp_atlas: Atlas, caplog, harm) -> None:
    net, shown = network(), stimuli(8)
    first = observe(net, shown, sites=[SITE], atlas=tmp_atlas)
    before = states(first)
    row = next(row for row in tmp_atlas.observations.results(first.id) if row.reducer == "top")
    path = tmp_atlas.array_path(row.array_hash)
    harm(path)
    with pytest.raises(DamagedArray, match=path.name):
        first.result(SITE, "top")
    with caplog.at_level(logging.WARNING, "cutaway.observe"):
        again = observe(net, shown, sites=[SITE], atlas=tmp_atlas)
    assert again.recomputed == (str(path),)
    assert path.name in caplog.text
    assert (again.batches_run, net.module.passes, again.seen) == (1, 2, 8)
    assert all(torch.equal(before[SITE, "top"][key], states(again)[SITE, "top"][key]) for key in before[SITE, "top"])
    assert tmp_atlas.check() == []


@pytest.mark.parametrize("victim", [0, 3])
def test_a_damaged_shard_is_named_and_recomputed(tmp_atlas: Atlas, tmp_path, victim: int) -> None:
    net, shown = network(), stimuli(20)

    def interrupt(done: int, _total: int) -> None:
        if done == 19:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        observe(net, shown, sites=[SITE], atlas=tmp_atlas, batch_size=1, progress=interrupt)
    shard = tmp_atlas.observations.shards(tmp_atlas.observations.all()[0].id)[victim]
    _cut(tmp_atlas.array_path(shard.array_hash))
    resumed = observe(net, shown, sites=[SITE], atlas=tmp_atlas)
    assert resumed.recomputed == (str(tmp_atlas.array_path(shard.array_hash)),)
    assert resumed.batches_run == 1 + shard.batch_count
    with Atlas(tmp_path / "straight") as other:
        assert_equal(resumed, observe(network(), shown, sites=[SITE], atlas=other, batch_size=1))


def test_a_result_that_is_no_state_of_its_reducer_is_damaged(tmp_atlas: Atlas) -> None:
    first = observe(network(), stimuli(8), sites=[SITE], atlas=tmp_atlas, reducers=["moments"])
    foreign = tmp_atlas.put_arrays({"song": torch.ones(2)})
    row = tmp_atlas.observations.results(first.id)[0]
    tmp_atlas.observations.reopen([row])
    record = tmp_atlas.observations.get(first.id)
    assert record is not None
    with tmp_atlas._database.write() as connection:
        from cutaway.atlas import database, records, schema

        false = ResultRecord(first.id, SITE, "moments", foreign)
        database.insert_new(connection, schema.results, [records.to_row(false)])
    with pytest.raises(DamagedArray, match="holds no state of Moments"):
        first.result(SITE, "moments")
    assert len(observe(network(), stimuli(8), sites=[SITE], atlas=tmp_atlas, reducers=["moments"]).recomputed) == 1


def test_unusable_stimuli_are_skipped_logged_and_counted(tmp_atlas: Atlas, caplog) -> None:
    shown = stimuli(["s1", "bad2", "s3", "bad4", "s5"])
    with caplog.at_level(logging.WARNING, "cutaway.observe"):
        observation = observe(network(), shown, sites=[SITE], atlas=tmp_atlas, batch_size=2)
    assert (observation.seen, observation.skipped) == (3, 2)
    assert "bad2 cannot be read" in caplog.text
    assert observation.result(SITE, "moments").count == 3 * 64
    assert tmp_atlas.stimuli.get(shown.fingerprint, "bad2") is not None


def test_a_stimulus_of_another_shape_does_not_spoil_its_batch(tmp_atlas: Atlas) -> None:
    shown = StimulusSet("mixed", [tensor_stimulus("s1"), tensor_stimulus("wide", torch.ones(3, 8, 9))])
    observation = observe(network(), shown, sites=[SITE], atlas=tmp_atlas)
    assert observation.seen == 2
    assert observation.result(SITE, "moments").count == 64 + 72


def test_stimuli_of_which_none_can_be_used(tmp_atlas: Atlas) -> None:
    with pytest.raises(BadInput, match=r"None of 2 stimuli could be used \(bad1 cannot be read"):
        observe(network(), stimuli(["bad1", "bad2"]), sites=[SITE], atlas=tmp_atlas)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("reducer", ALL)
def test_a_number_that_is_none_names_site_and_stimulus(tmp_atlas: Atlas, value: float, reducer: str) -> None:
    harmed = torch.zeros(3, 8, 8)
    harmed[0, 2, 2] = value
    shown = StimulusSet("harmed", [tensor_stimulus("s1"), tensor_stimulus("harmed", harmed)])
    with pytest.raises(BadInput, match=r"Unit \d of conv is .* on stimulus harmed"):
        observe(network(), shown, sites=["conv"], atlas=tmp_atlas, reducers=[reducer])


def test_huge_activations_are_not_mistaken_for_infinite_ones(tmp_atlas: Atlas) -> None:
    net = wrap(torch.nn.Sequential(torch.nn.ReLU()), name="huge", example=torch.ones(1, 3, 8, 8))
    shown = StimulusSet("huge", [tensor_stimulus("huge", torch.full((3, 8, 8), 3e38))])
    observation = observe(net, shown, sites=["0"], atlas=tmp_atlas)
    assert observation.result("0", "firing").active.tolist() == [1.0, 1.0, 1.0]
    assert observation.result("0", "moments").max.tolist() == [pytest.approx(3e38)] * 3


def test_questions_that_cannot_be_asked(tmp_atlas: Atlas) -> None:
    def ask(net=None, shown=None, **options) -> Observation:
        asked = {"sites": [SITE], "atlas": tmp_atlas, **options}
        return observe(net or network(), stimuli(2) if shown is None else shown, **asked)

    with pytest.raises(UnknownName, match="There is no site named 'relo'; did you mean relu"):
        ask(sites=["relo"])
    with pytest.raises(UnknownName, match="There is no reducer named 'tops'"):
        ask(reducers=["tops"])
    with pytest.raises(BadInput, match="0 sites"):
        ask(sites=[])
    with pytest.raises(BadInput, match="size of at least 1"):
        ask(batch_size=0)
    with pytest.raises(BadInput, match="0 stimuli"):
        ask(shown=StimulusSet("nothing", []))

    class Foreign(Moments):
        """Not registered."""

    with pytest.raises(BadInput, match="Foreign is not a registered reducer"):
        ask(reducers=[Foreign()])
    observation = ask()
    with pytest.raises(UnknownName, match="observed site"):
        observation.result("conv", "top")
    with pytest.raises(UnknownName, match="reducer of this observation"):
        observation.result(SITE, "coactivation")
    with pytest.raises(AtlasMismatch):
        ask(net=network(seed=1))


class Words:
    """A tokenizer of one token for each word, padded on the right."""

    def __call__(self, texts: list[str], **_options: object) -> dict[str, torch.Tensor]:
        rows = [[3 + sum(map(ord, word)) % 40 for word in text.split()] for text in texts]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": mask}


class Reader(torch.nn.Module):
    """Embeds tokens and mixes each with the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.act = torch.nn.Embedding(50, 6), torch.nn.GELU()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        embedded = self.embed(input_ids)
        return self.act(embedded + 0.5 * torch.roll(embedded, 1, dims=1))


def test_padded_texts_give_what_single_texts_give(tmp_atlas: Atlas, tmp_path) -> None:
    torch.manual_seed(0)
    example = torch.zeros(1, 4, dtype=torch.long)
    net = wrap(Reader(), name="reader", tokenizer=Words(), modality="text", example=example)
    texts = ["one", "two words", "here are four words", "and now five of them"]
    shown = StimulusSet("texts", [Stimulus(text, "text", "here", lambda text=text: text) for text in texts])
    asked = {"sites": ["embed"], "reducers": [*ALL]}
    together = observe(net, shown, atlas=tmp_atlas, batch_size=4, **asked)
    assert together.result("embed", "moments").count == 1 + 2 + 4 + 5
    with Atlas(tmp_path / "single") as other:
        single = observe(net, shown, atlas=other, batch_size=1, **asked)
        for name in ("quantiles", "firing", "top", "intervals"):
            one, many = states(single)["embed", name], states(together)["embed", name]
            assert all(torch.equal(one[key], many[key]) for key in one)
