"""linearize reads tree by tree: four times as many trees take hardly more memory."""

import pytest

from benchmarks.linearize import linearized

pytestmark = pytest.mark.slow


def test_memory_does_not_grow_with_the_trees():
    """Beside each chain's row of the gate, some 200 bytes, nothing is kept. All trees in a list took 50 kB each."""
    few, many = (linearized(count) for count in (1000, 4000))
    chains = many[0].traces - few[0].traces
    assert chains > 2000
    grown = (many[1].peak_memory_gb - few[1].peak_memory_gb) * 2**30
    print(f"{grown / chains:.0f} bytes more for each chain")
    assert grown < 2000 * chains
