"""What is held does not grow with the number of stimuli."""

import tracemalloc
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
    for batch in range(400):
        reducer.update([f"{batch:04d}.{n}" for n in range(4)], torch.randn(4, 16, 3, generator=generator).clamp(-4, 4))
        sizes.append(sum(array.numel() for array in reducer.state().values()))
    # The tails of a normal distribution go on filling a few bins.
    assert sizes[-1] <= 1.3 * sizes[39]


def test_memory_and_files_stay_bounded(tmp_path: Path) -> None:
    def peak(count: int) -> tuple[int, int]:
        shown, most = stimuli(count), 0

        def count_files(_done: int, _total: int) -> None:
            nonlocal most
            most = max(most, len(list((tmp_path / str(count) / "arrays").rglob("*.safetensors"))))

        with Atlas(tmp_path / str(count)) as atlas:
            tracemalloc.start()
            observe(network(), shown, sites=[SITE], atlas=atlas, batch_size=1, progress=count_files)
            _, highest = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        return highest, most

    peak(4)  # whatever is loaded once
    small, large = peak(20), peak(200)
    assert large[0] < 2 * small[0]
    assert large[1] <= 15 + 15 + 2, "fifteen of one batch, fifteen of sixteen, and two while they are merged"
