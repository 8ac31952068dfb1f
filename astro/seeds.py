"""Seeds that depend on what is generated and not on when, so that every driver makes the same tree."""

import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import Literal

_DIGEST_BYTES = 8
_UNUSED_BITS = 2  # 64 - 62: seed + n - 1 must stay below 2**63, because engines use signed 64-bit seeds


def node_seed(run_seed: int, problem_id: str, steps: Sequence[str], purpose: Literal["expand", "rollout"]) -> int:
    """Seed in [0, 2**62) of one request at the node after `steps`.

    It is hashed and not counted up. Engines use the seed `seed + i` for sample i of a request, so consecutive seeds
    would make neighbouring requests share samples. JSON separates the parts: ("ab", "c") differs from ("a", "bc").
    """
    return hashed_seed(run_seed, problem_id, purpose, *steps)


def hashed_seed(*parts: object) -> int:
    """Seed in [0, 2**62) from `parts` (JSON values), see `node_seed`."""
    identity = json.dumps(parts).encode()
    return int.from_bytes(blake2b(identity, digest_size=_DIGEST_BYTES).digest(), "big") >> _UNUSED_BITS
