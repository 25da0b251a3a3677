"""Everything that collects evidence about units works on latents."""

import dataclasses

import pytest

from cutaway.bases import Origin, random_directions
from cutaway.bases.unfolding import view
from cutaway.errors import UnknownName
from cutaway.features import explain_many
from tests.features.planted import pictures, templates


def test_the_card_of_a_latent() -> None:
    network = templates()
    made = random_directions(30, 40, origin=Origin(network.name, network.fingerprint, "act", "act"))
    basis = dataclasses.replace(made, positive=True, name="rough")
    shown = pictures(6)
    (card,) = explain_many(view(network, [basis]), ["act@rough:37"], stimuli=shown)
    assert card.address == "act@rough:37" and card.site_kind == "codes" and card.fingerprint == network.fingerprint
    batch = network.prepare(list(shown))
    codes = view(network, [basis]).run(batch, capture=["act@rough"])["act@rough"][:, 37]
    assert card.firing_rate.value == pytest.approx(float((codes > 0).double().mean()))
    top = next(each for each in card.examples if each.level == "top")
    assert top.value == pytest.approx(float(codes.max()), rel=1e-6)
    assert card.outputs.method == "ablation" and card.outputs.measures[0][1].value > 0
    with pytest.raises(UnknownName, match="rough"):
        explain_many(view(network, [basis]), ["act@rogh:3"], stimuli=shown)
