"""Contracts of the problems stage: its params and metrics."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from schemas.strict import Strict


class EvalSet(Strict):
    """One generated eval set."""

    level: int = Field(ge=1, description="level of its problems; Countdown: how many numbers")
    size: int = Field(ge=1, description="number of problems")


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
"""Name of a ready-made field map, see `astro.importing.presets`."""

Cell = str | bool | int | float | None
"""Value that a filter requires; None: the cell must be empty."""


class FieldMap(Strict):
    """Columns of a source that hold the parts of a problem.

    "a.b" is field b of the object in field a, "a[-1]" is the last item of the list in field a, and "a[user]" is the last
    message of the role user in it. "" uses the preset's field.
    """

    id: str | Literal[False] = Field(
        default="", description="unique id within the set; if missing or false, the line's number is the id"
    )
    question: str = Field(
        default="",
        description=(
            'the question in words and LaTeX; a template joins several columns: "{Body} {Question}[[ in {unit}]]"'
        ),
    )
    trim: list[str] = Field(
        default=[], description="texts to remove from the front and the end of each question, such as instructions"
    )
    answer: str = Field(default="", description="the reference answer, or a text that contains it")
    level: str = Field(default="", description='difficulty: a number from 1, alone or with a label ("Level 5")')
    answer_in: Literal["", "plain", "boxed", "hashes"] = Field(
        default="",
        description=('place of the answer in `answer`: all of it, its last \\boxed{}, or after its last "####"'),
    )
    data: list[str] = Field(default=[], description="columns that a task of your own needs, available as problem.data")
    several: Literal["", "all"] = Field(
        default="",
        description=(
            'a list of answers: "all": all of them are required; "": they must be equal, or the row is dropped'
        ),
    )


class SourceSpec(Strict):
    """Where one problem set comes from: a file, a folder of files, or a dataset of the Hugging Face hub."""

    path: str = Field(default="", description="file: JSONL, a JSON array, a table or Parquet; text also as .gz")
    dataset: str = Field(default="", description="hub id, a local folder, or a file as in path")
    config: str = Field(default="", description='configuration of the dataset; "": the only one')
    split: str = Field(default="", description='split of the dataset, such as "train" or "test"; "": the only one')
    revision: str = Field(default="", description='commit or tag of a hub dataset; "": the current version')
    preset: Preset = Field(default="plain", description="a ready-made field map; `fields` overrides single fields")
    fields: FieldMap = FieldMap()
    separator: str = Field(
        default="", max_length=1, description='separator of the cells of a table, such as ";"; "": detected'
    )
    where: dict[str, Cell | list[Cell]] = Field(
        default={}, description="column -> value, or list of values; only rows with such a value are read"
    )
    skip: int = Field(default=0, ge=0, description="rows to skip at the front")
    limit: int = Field(default=0, ge=0, description="largest number of rows after that; 0: all")
    strict: bool = Field(default=False, description="stop at the first bad row instead of dropping it")

    @model_validator(mode="after")
    def _one_place(self) -> "SourceSpec":
        if bool(self.path) == bool(self.dataset):
            raise ValueError("give either path (a file) or dataset (a hub id or a local dataset)")
        if self.path and (self.config or self.split or self.revision):
            raise ValueError("config, split and revision belong to a dataset, not to a path")
        return self


def _as_spec(value: object) -> object:
    """Expand a plain path to a source with that path."""
    return {"path": value} if isinstance(value, str) else value


class OverlapParams(Strict):
    """Decontamination: drop train and RL problems that equal an eval problem after normalisation, or share an n-gram with it."""

    ngram: int = Field(
        ge=0, description=("length of a run of words that counts as overlap; 0: only equal problems are dropped")
    )


class ProblemsParams(Strict):
    """The origin of the problems."""

    source: Literal["generated", "files"] = Field(description="generated: made by the task; files: your own sets")
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
        description="files: folder (or file) of the sets; DVC watches it, so an edit runs the pipeline again",
    )
    files: dict[str, Annotated[SourceSpec, BeforeValidator(_as_spec)]] = Field(
        description="files: train, rl and eval_<name> -> a path, or a full description of the source"
    )
    overlap: OverlapParams

    @property
    def lowest_level(self) -> int:
        """The lowest level that train and rl problems have."""
        return min(int(level) for level, share in self.levels.items() if share)

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
            raise ValueError(f"levels: keys are levels, whole numbers from 1, not {bad}")
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
                raise ValueError(
                    f"files: names of sets are train, rl and eval_<name> (letters, digits and _), not {bad}"
                )
        return self


class SetMetrics(Strict):
    """Figures of one problem set."""

    size: int = Field(ge=1)
    chance: float | None = Field(description="mean exact probability that a random legal path succeeds; None: unknown")


class ImportMetrics(Strict):
    """Rows that an import dropped or kept with a warning. data/problems/dropped.csv lists the first of each kind."""

    exact: int = Field(ge=0, description="train and rl problems that equal an eval problem after normalisation")
    ngram: int = Field(ge=0, description="train and rl problems that share a long run of words with an eval problem")
    repeated: int = Field(ge=0, description="problems that already occur in the set or in train")
    unparseable_gold: int = Field(ge=0, description="problems whose reference answer the grader cannot read")
    contradictory: int = Field(ge=0, description="problems whose question also occurs with another answer")
    unreadable: int = Field(ge=0, description="rows without a usable problem: broken, or a required field is missing")
    filtered: int = Field(ge=0, description="rows that `where` or the preset excludes")
    default_level: int = Field(ge=0, description="kept with level 1, because their level is invalid")
    half_question: int = Field(ge=0, description="kept, although a column that belongs to the question is not read")
    long_question: int = Field(ge=0, description="kept, although the question is too long for most models")


class ProblemsMetrics(Strict):
    """Content of metrics/problems.json."""

    sets: dict[str, SetMetrics]
    dropped: int = Field(
        ge=0, description="train and rl problems dropped because they also occur in an eval set, or twice"
    )
    imported: ImportMetrics | None = Field(
        default=None, exclude_if=lambda value: value is None, description="missing if the problems were generated"
    )


Reason = Literal["exact", "ngram", "repeated", "unparseable_gold", "contradictory", "unreadable", "filtered"]
"""Reason for dropping a problem. `ImportMetrics` explains each."""


class Dropped(Strict):
    """A row of data/problems/dropped.csv: a row that is in no set."""

    id: str = Field(description='id of the row; "": the row is unreadable')
    set: str = Field(description="name of the set that it was given for")
    reason: Reason
    hits: str = Field(description='"<set>:<id>" of the problem that it repeats or contradicts; "": none')
    where: str = Field(description="file and line, or file and row")
    detail: str = Field(description="the shared words, the gold in the file, or the fault")
