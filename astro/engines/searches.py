"""Searches over problems as the engines take them: the search core, a domain and params.mcts put together."""

from collections.abc import Sequence

from astro.domains import Domain
from astro.engines.api import Request
from astro.search import Expand, Search, SearchConfig, sample_tree, search
from schemas.records import Problem


def searches_of(problems: Sequence[Problem], *, settings, domain: Domain, seed: int):
    """What `run_searches` takes: the searches (lazily made) and how their wishes become requests.

    Args:
        settings: schemas.mcts.MctsParams.
        seed: of the run.
    """
    config = SearchConfig(**settings.model_dump(include=set(SearchConfig.__dataclass_fields__)))
    prompts = {p.id: domain.prompt(p) for p in problems}

    def to_request(identifier: str, wanted) -> Request:
        steps = "".join(step + domain.step_end for step in wanted.steps)
        expand = isinstance(wanted, Expand)
        return Request(
            prompt=prompts[identifier] + steps,
            n=wanted.n,
            max_tokens=settings.step_tokens if expand else settings.rollout_tokens,
            temperature=settings.temperature,
            stop=(domain.step_end,) if expand else (),
            seed=wanted.seed,
            logprobs=expand and settings.prior != "uniform",
        )

    def judge_of(problem: Problem):
        def judge(steps, rest):
            answer = domain.extract(domain.response(steps, rest))
            return answer, domain.grade(problem, answer)

        return judge

    def search_of(problem: Problem) -> Search:
        shared = {
            "seed": seed,
            "is_terminal": domain.is_terminal,
            "judge": judge_of(problem),
            "key": domain.state_key,
        }
        if settings.method == "best_of_n":
            return sample_tree(
                problem,
                samples=settings.samples,
                max_depth=settings.max_depth,
                split=lambda text: text.split(domain.step_end),
                **shared,
            )
        return search(problem, config=config, **shared)

    return ((p.id, search_of(p)) for p in problems), to_request
