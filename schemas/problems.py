"""problems stage: its params and metrics."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from schemas.base import Strict


class EvalSet(Strict):
    """One generated eval set."""

    level: int = Field(ge=1, description="of its problems; Countdown: how many numbers")
    size: int = Field(ge=1, description="problems in the set")


Preset = Literal[
    "plain",
    "math",
    "math500",
    "amc2023",
    "aime2024",
    "aime2025",
    "gsm8k",
    "numina",
    "openr1",
    "svamp",
    "asdiv",
    "aqua",
    "olympiadbench",
    "omnimath",
    "dapo17k",
    "deepscaler",
    "bigmath",
    "countdown3to4",
]
"""A ready field map, see `astro.importing.presets`."""

Cell = str | bool | int | float | None
"""A value that a filter asks for; None: the cell is empty."""


class FieldMap(Strict):
    """Where a source keeps what a problem needs.

    "a.b" is field b of the object in field a, "a[-1]" is the last item of the list in field a, and "a[user]" is the last
    message of the role user in it. "" takes the preset's field.
    """

    id: str | Literal[False] = Field(
        default="", description="unique within the set; without one, or with false, the line's number is the id"
    )
    question: str = Field(
        default="",
        description='what is asked, words and LaTeX; columns are joined by a template: "{Body} {Question}[[ in {unit}]]"',
    )
    trim: list[str] = Field(
        default=[], description="texts that are taken off the front and the end of each question, such as instructions"
    )
    answer: str = Field(default="", description="the reference answer, or a text that holds it")
    level: str = Field(default="", description='difficulty: a number from 1 on, alone or labelled ("Level 5")')
    answer_in: Literal["", "plain", "boxed", "hashes"] = Field(
        default="", description='where in `answer` it stands: all of it, its last \\boxed{}, after its last "####"'
    )
    data: list[str] = Field(default=[], description="columns that a task of your own needs: they are its problem.data")
    several: Literal["", "all"] = Field(
        default="", description='of a list of answers: "all" are asked for together; "": they must say the same'
    )


class SourceSpec(Strict):
    """Where one problem set comes from: a file, a folder of files, or a dataset of the Hugging Face hub."""

    path: str = Field(default="", description="file: JSONL, a JSON array, a table or Parquet; text also as .gz")
    dataset: str = Field(default="", description="hub id, a local folder, or a file as in path")
    config: str = Field(default="", description='configuration of the dataset; "": its only one')
    split: str = Field(default="", description='split of the dataset, e.g. "train" or "test"; "": its only one')
    revision: str = Field(default="", description='commit or tag of a hub dataset; "": whatever the hub has now')
    preset: Preset = Field(default="plain", description="a ready field map; `fields` changes single fields of it")
    fields: FieldMap = FieldMap()
    separator: str = Field(
        default="", max_length=1, description='what separates the cells of a table: ";"; "": found in the file'
    )
    where: dict[str, Cell | list[Cell]] = Field(
        default={}, description="column -> the value, or list of values, that a row must have there to be read"
    )
    skip: int = Field(default=0, ge=0, description="rows left out at the front")
    limit: int = Field(default=0, ge=0, description="at most so many rows after that; 0: all")
    strict: bool = Field(default=False, description="stop at the first bad row instead of leaving it out")

    @model_validator(mode="after")
    def _one_place(self) -> "SourceSpec":
        if bool(self.path) == bool(self.dataset):
            raise ValueError("give either path (a file) or dataset (a hub id or a local dataset)")
        if self.path and (self.config or self.split or self.revision):
            raise ValueError("config, split and revision belong to a dataset, not to a path")
        return self


def _as_spec(value: object) -> object:
    """A path alone stands for a source with that path."""
    return {"path": value} if isinstance(value, str) else value


class OverlapParams(Strict):
    """When does a train or rl problem count as one of an eval set? Always, where both say the same but for layout."""

    ngram: int = Field(ge=0, description="and where they share so many words in a row; 0: not looked at")


class ProblemsParams(Strict):
    """Where problems come from."""

    source: Literal["generated", "files"] = Field(description="problems that the task makes, or sets of your own")
    train: int = Field(ge=1, description="generated: problems for mcts")
    rl: int = Field(ge=1, description="generated: problems for grpo")
    levels: dict[str, float] = Field(description="generated: level -> share, for train and rl")
    eval: dict[str, EvalSet] = Field(min_length=1, description="generated: name -> eval set")
    number_max: int = Field(ge=2, le=99, description="operands are drawn from 1..number_max")
    target_min: int = Field(ge=1, description="smallest target")
    target_max: int = Field(ge=1, description="largest target; at most value_max")
    value_max: int = Field(ge=2, le=999, description="largest intermediate result of a legal path")
    folder: str = Field(
        min_length=1,
        description="files: the folder (or file) they stand in; DVC watches it, so an edit runs the pipeline again",
    )
    files: dict[str, Annotated[SourceSpec, BeforeValidator(_as_spec)]] = Field(
        description="files: train, rl and eval_<name> -> path, or where it comes from in full"
    )
    overlap: OverlapParams

    @model_validator(mode="after")
    def _consistent(self) -> "ProblemsParams":
        if self.target_min > self.target_max:
            raise ValueError(f"target_min {self.target_min} is above target_max {self.target_max}")
        if self.target_max > self.value_max:
            raise ValueError(f"target_max {self.target_max} is above value_max {self.value_max}")
        if self.number_max > self.value_max:
            raise ValueError(f"number_max {self.number_max} is above value_max {self.value_max}")
        bad = [k for k in self.levels if not (k.isdigit() and int(k))]
        if bad:
            raise ValueError(f"levels: keys are levels, whole numbers from 1 on, not {bad}")
        if any(v < 0 for v in self.levels.values()) or abs(sum(self.levels.values()) - 1) > 1e-6:
            raise ValueError(f"levels: shares must be >= 0 and add up to 1, not {dict(self.levels)}")
        bad = [name for name in self.eval if not name.replace("_", "").isalnum()]
        if bad:
            raise ValueError(f"eval: names are letters, digits and _, not {bad}")
        if self.source != "generated":
            missing = {"train", "rl"} - set(self.files)
            if missing or not any(name.startswith("eval_") for name in self.files):
                raise ValueError(f"files: source {self.source} needs train, rl and at least one eval_<name>")
            bad = [n for n in self.files if n not in ("train", "rl") and not re.fullmatch(r"eval_\w+", n, re.ASCII)]
            if bad:
                raise ValueError(f"files: sets are train, rl and eval_<name> of letters, digits and _, not {bad}")
        return self


class SetMetrics(Strict):
    """One problem set."""

    size: int = Field(ge=1)
    chance: float | None = Field(description="mean exact share of random legal paths that succeed; None: unknown")


class ImportMetrics(Strict):
    """What an import left out or was unsure of, in rows. data/problems/dropped.jsonl lists the first of each kind."""

    exact: int = Field(ge=0, description="train and rl problems that say the same as an eval problem")
    ngram: int = Field(ge=0, description="train and rl problems that share a long run of words with an eval problem")
    repeated: int = Field(ge=0, description="problems that stand in the set, or in train, already")
    unparseable_gold: int = Field(ge=0, description="problems whose reference the grader cannot read")
    contradictory: int = Field(ge=0, description="problems whose question stands there with another answer too")
    unreadable: int = Field(ge=0, description="rows that hold no problem: broken, or without a field that is needed")
    filtered: int = Field(ge=0, description="rows that `where` or the preset does not ask for")
    default_level: int = Field(ge=0, description="kept, with level 1 because the level given there is none")
    half_question: int = Field(ge=0, description="kept, though a column that belongs to the question is not read")
    long_question: int = Field(ge=0, description="kept, though the question is longer than most models can read")


class ProblemsMetrics(Strict):
    """metrics/problems.json"""

    sets: dict[str, SetMetrics]
    dropped: int = Field(
        ge=0, description="train and rl problems dropped because they also stand in an eval set or twice"
    )
    imported: ImportMetrics | None = Field(
        default=None, exclude_if=lambda value: value is None, description="absent: the problems were generated"
    )


Reason = Literal["exact", "ngram", "repeated", "unparseable_gold", "contradictory", "unreadable", "filtered"]
"""Why a problem was left out; `ImportMetrics` says what each means."""


class Dropped(Strict):
    """A line of data/problems/dropped.jsonl: a row that was given and is in no set."""

    id: str = Field(description='"": the row is not readable')
    set: str = Field(description="the set it was given for")
    reason: Reason
    hits: str = Field(description='"<set>:<id>" of the problem that it repeats or contradicts; "": there is none')
    where: str = Field(description="file and line, or file and row")
    detail: str = Field(description="the shared words, the gold as it stands there, or what is wrong")
