"""Turn a node sequence into a chain of thought with phrases from a file (paper section 2.4, without a rewriting LM)."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import Field, ValidationError
from ruamel.yaml import YAML, YAMLError

from astro.cloning.walk import Walk
from astro.files import explain
from astro.process import UserError
from schemas.records import ROOT, Segment, Tree
from schemas.strict import Strict


class Phrases(Strict):
    """Phrases for doubting and going back. Each jump draws one from each list."""

    reflection: list[str] = Field(min_length=1)
    return_step: list[str] = Field(min_length=1, description="texts before the restated path to a step")
    return_root: list[str] = Field(min_length=1, description="texts before the restated problem")

    def all(self) -> list[str]:
        """All phrases without duplicates, in the file's order."""
        return list(dict.fromkeys([*self.reflection, *self.return_step, *self.return_root]))


def load_phrases(path: Path) -> Phrases:
    """Read a phrase file.

    Raises:
        UserError: the file is missing or not YAML, or a list is missing or empty.
    """
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"linearize.phrase_file: {path}: {error.strerror}") from None
    except YAMLError as error:
        raise UserError(f"{path}: invalid YAML: {error}") from None
    try:
        return Phrases.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error)}") from None


def write_chain(
    tree: Tree,
    walk: Walk,
    *,
    phrases: Phrases | None,
    rng: random.Random,
    step_end: str,
    abandoned: Callable[[str], tuple[str, str]],
    restate: Callable[[Sequence[str]], str],
) -> list[Segment]:
    """The segments of a walk's chain of thought.

    A wrong terminal is written as the two parts of `abandoned(text)`, the wrong step and the chain's finding about it.
    A return is written as `restate(steps up to its target)`. Without phrases (None) only the words between the branches
    are left out. The finding, with the line end after it, belongs to the reflection and not to the wrong step, because
    the model must learn to find a fault and then not to answer, even if wrong steps are masked in training.
    """
    final = set(tree.path(walk.legs[-1].nodes[-1]))
    segments: list[Segment] = []
    for position, leg in enumerate(walk.legs):
        if position:
            state = restate(tree.steps(leg.start))
            if phrases is not None:
                kind = phrases.return_root if leg.start == ROOT else phrases.return_step
                said = rng.choice(phrases.reflection) + step_end
                state = rng.choice(kind) + step_end + state
                segments.append(Segment(text=said, kind="reflection", node=None))
            segments.append(Segment(text=state, kind="return", node=leg.start))
        last_leg = position == len(walk.legs) - 1
        for index in leg.nodes:
            text, finding = tree.nodes[index].text, ""
            ends = index == leg.nodes[-1]
            if ends and not last_leg:
                text, finding = abandoned(text)
                finding += step_end
            elif not ends:
                text += step_end
            segments.append(Segment(text=text, kind="step" if index in final else "wrong_step", node=index))
            if finding:
                segments.append(Segment(text=finding, kind="reflection", node=None))
    return segments
