"""Golden trees: stored JSON files that hold their own configuration, and how to make the tree again."""

from dataclasses import asdict
from pathlib import Path

from astro.execution.scheduler import run_searches
from astro.search import SearchConfig, search
from schemas.records import Tree
from tests.scripted_engine import ScriptedEngine
from tests.search.world import World, judged, rendered

FOLDER = Path(__file__).parents[1] / "data"

# name -> world, config, seed; read by the record command alone (a test reads what the file says)
CASES: dict[str, tuple[World, SearchConfig, int]] = {
    # the ordinary case: solved, with wrong terminals at several depths
    "solved": (
        World(seed=1),
        SearchConfig(
            num_actions=4, rollouts_per_child=4, num_simulations=12, max_depth=6, c_puct=1.0, prior="sequence"
        ),
        0,
    ),
    # the depth limit closes nodes; token prior
    "shallow": (
        World(seed=1, goal=3),
        SearchConfig(num_actions=6, rollouts_per_child=3, num_simulations=10, max_depth=2, c_puct=0.5, prior="token"),
        1,
    ),
    # mostly blank steps: dead ends that their rollouts found worth something; uniform prior
    "dead_ends": (
        World(seed=13, goal=3, blank=4.0, ramble=0.1, headroom=0),
        SearchConfig(num_actions=2, rollouts_per_child=4, num_simulations=16, max_depth=8, c_puct=2.0, prior="uniform"),
        2,
    ),
}


def make(world: World, config: SearchConfig, seed: int) -> Tree:
    """The tree of one case."""
    one = search(world.problem, config=config, seed=seed, is_terminal=world.is_terminal, key=world.key)
    engine, job = ScriptedEngine(world.next_tokens), rendered(judged(one, world.judge), world)
    ((_, tree),) = run_searches([(world.problem.id, job)], engine=engine, in_flight=1)
    return tree


def dump(world: World, config: SearchConfig, seed: int) -> dict:
    """What a golden file holds."""
    return {
        "world": asdict(world),
        "config": asdict(config),
        "seed": seed,
        "tree": make(world, config, seed).model_dump(),
    }


def remake(stored: dict) -> dict:
    """The same file, its tree made again from the configuration that it holds."""
    return dump(World(**stored["world"]), SearchConfig(**stored["config"]), stored["seed"])
