"""What is held does not grow with the number of stimuli."""

from pathlib import Path

import pytest
import torch

from cutaway.atlas import Atlas
from cutaway.observe import observe
from cutaway.registry import REDUCERS
from tests.observe.small import ALL, network, stimuli

SITE = "relu"


@pytest.mark.parametrize("name", ALL)
def test_ten_times_the_stimuli_take_no_more_state(name: str) -> None:
    """Once every bin and every place at the top is taken, a state stays as large as it is."""
    reducer, sizes = REDUCERS[name](), []
    generator = torch.Generator().manual_seed(0)
    for batch in range(300):
        acts = torch.randn(4, 16, 3, generator=generator).mul(8).round().div(8).clamp(-3, 3)
        reducer.update([f"{batch:04d}.{n}" for n in range(4)], acts)
        sizes.append(sum(array.numel() for array in reducer.state().values()))
    # What still grows a little is the table of ids, until each of the kept examples is of another stimulus.
    assert sizes[-1] <= 1.3 * sizes[29]


def test_few_files_exist_at_any_time(tmp_path: Path) -> None:
    most = 0

    def count_files(_done: int, _total: int) -> None:
        nonlocal most
        most = max(most, len(list((tmp_path / "arrays").rglob("*.safetensors"))))

    with Atlas(tmp_path) as atlas:
        asked = {"sites": [SITE], "batch_size": 1, "reducers": ["firing"]}
        observe(network(), stimuli(80), atlas=atlas, progress=count_files, **asked)
    assert 15 <= most <= 15 + 4, "fifteen of one batch and four of sixteen"
