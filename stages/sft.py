"""Fine-tune the base model on the traces (paper section 3.1).

    python -m stages.sft

Deviations from the paper: 9. more than one epoch and a higher learning rate by default: the embedded base has 2 million
parameters and a corpus of its own, not 70 billion.
"""

from pathlib import Path

from astro.runtime import clear_folder, read_jsonl, run_stage, work_folder
from schemas.records import Trace
from schemas.sft import SftMetrics
from stages.harness import CURVES, stage

OUT = Path("models/sft")
MODEL = Path("models/base")
TRACES = Path("data/traces/train.jsonl")
CODE = ["stages/sft.py", "astro/training"]


def main() -> None:
    """Write models/sft and its curve."""
    with stage("sft", "run", "sft") as s:
        traces = list(read_jsonl(TRACES, Trace))  # before the slow imports: a broken line is told at once
        from astro.cloning.template import load_phrases
        from astro.training.common import load_causal_lm, save_model, tail_mean, write_curve
        from astro.training.sft import build_dataset, fine_tune
        from astro.training.wordlevel import add_unspellable

        settings = s.params.sft
        model, tokenizer = load_causal_lm(MODEL, name="models/base")
        # The vocabulary takes in the phrases whether or not these traces use them: all ablations share one shape.
        phrase_file = Path(s.params.linearize.phrase_file)
        added = add_unspellable(tokenizer, load_phrases(phrase_file).all())
        if added:
            model.resize_token_embeddings(len(tokenizer))
        dataset, too_long = build_dataset(traces, tokenizer, loss_on=settings.loss_on, max_length=settings.max_length)
        print(f"[sft] {len(dataset)} examples, {too_long} dropped as too long", flush=True)
        with work_folder("sft", s.work_key([TRACES, MODEL, phrase_file], CODE)) as work:
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
            save_model(model, tokenizer, OUT)
            clear_folder(work)
        write_curve(CURVES / "sft.csv", curve)
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
