"""Seeds of requests: repeatable, distinct, and apart from each other."""

import itertools

from astro.seeds import node_seed

PATHS = [(), ("a",), ("b",), ("a", "b"), ("ab",), ("a", "b", "c"), ("a", "bc"), ('a","b',), ("é",), ("\ud800",)]


def test_each_identity_has_its_own_seed():
    identities = list(itertools.product((0, 1), ("p", "q"), PATHS, ("expand", "rollout")))
    assert len({node_seed(*identity) for identity in identities}) == len(identities)


def test_seeds_leave_room_for_the_samples_of_a_request():
    """seed .. seed + n - 1 fit a signed 64-bit integer, and no two requests share one of them."""
    seeds = sorted(node_seed(0, "p", (str(i),), "rollout") for i in range(2000))
    assert seeds[0] >= 0
    assert seeds[-1] < 2**62
    assert min(b - a for a, b in itertools.pairwise(seeds)) > 10_000


def test_a_seed_is_the_same_everywhere():
    """Not per process, as `hash` is: `printf '[0, "p", "expand", "a", "b"]' | b2sum -l 64`, shifted right by 2."""
    assert node_seed(0, "p", ("a", "b"), "expand") == 3344138260175065443
