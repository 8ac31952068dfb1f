"""Fine-tune the base model on the traces (paper section 3.1).

    python -m stages.sft           # the ASTRO arm: chains that search
    python -m stages.sft direct    # the comparator: direct solutions of the same trees, as many examples

Deviations from the paper: 9. more than one epoch and a higher learning rate by default: the embedded base has 2 million
parameters and a corpus of its own, not 70 billion.
"""

import shutil
from pathlib import Path

from astro.runtime import atomic_path, clear_folder, read_jsonl, run_stage, work_folder, write_text
from schemas.records import Trace
from schemas.sft import SftMetrics
from stages.harness import CURVES, arm_name, stage

MODEL = Path("models/base")
TRACES = {"sft": Path("data/traces/train.jsonl"), "sft_direct": Path("data/traces/direct.jsonl")}
CODE = ["stages/sft.py", "astro/training", "astro/tokens.py"]


def main() -> None:
    """Write models/<arm> and its curve."""
    name = arm_name("sft")
    with stage(name, "run", "sft") as s:
        traces = list(read_jsonl(TRACES[name], Trace))  # before the slow imports: a broken line is told at once
        if s.params.sft.epochs == 0:
            keep_as_it_is(s)
        else:
            train(s, traces)


def keep_as_it_is(s) -> None:
    """0 epochs: the base model under the arm's name, so that RL starts from it."""
    with atomic_path(Path("models") / s.name) as folder:
        shutil.copytree(MODEL, folder)
    write_text(CURVES / f"{s.name}.csv", "step,loss\n")
    print(f"[{s.name}] 0 epochs: {MODEL} as it is", flush=True)
    s.finish(SftMetrics(examples=0, too_long=0, tokens=0, steps=0, loss=None))


def train(s, traces: list[Trace]) -> None:
    """SFT itself; publishes the model, its curve and its metrics."""
    from astro.cloning.template import load_phrases
    from astro.training.common import load_causal_lm, save_model, tail_mean, write_curve
    from astro.training.fit import require_fit
    from astro.training.sft import build_dataset, fine_tune
    from astro.training.wordlevel import add_unspellable

    settings, source = s.params.sft, TRACES[s.name]
    require_fit(MODEL, s.params, name="params.yaml")
    model, tokenizer = load_causal_lm(MODEL, name=str(MODEL))
    # The vocabulary takes in the phrases whether or not these traces use them: all ablations share one shape.
    phrase_file = Path(s.params.linearize.phrase_file)
    added = add_unspellable(tokenizer, load_phrases(phrase_file).all())
    if added:
        model.resize_token_embeddings(len(tokenizer))
    dataset, too_long = build_dataset(traces, tokenizer, loss_on=settings.loss_on, max_length=settings.max_length)
    print(f"[{s.name}] {len(dataset)} examples, {too_long} dropped as too long", flush=True)
    with work_folder(s.name, s.work_key([source, MODEL, phrase_file], CODE)) as work:
        model, curve, steps = fine_tune(
            model,
            tokenizer,
            dataset,
            settings=settings.model_dump(),
            seed=s.params.run.seed,
            work=work,
            log=s.log,
            new_tokens=bool(added),
        )
        save_model(model, tokenizer, Path("models") / s.name)
        clear_folder(work)
    write_curve(CURVES / f"{s.name}.csv", curve)
    s.finish(
        SftMetrics(
            examples=len(dataset),
            too_long=too_long,
            tokens=round(sum(len(row) for row in dataset["input_ids"]) * settings.epochs),
            steps=steps,
            loss=tail_mean(curve, "loss", 0.05),
        )
    )


if __name__ == "__main__":
    run_stage(main)
