"""Fine-tune the base model on the traces (paper section 3.1).

    python -m stages.sft           # the ASTRO arm of arms.yaml: chains that search
    python -m stages.sft direct    # the baseline: direct solutions of the same trees, as many examples
    ASTRO_COMPUTE=gpu-8-fsdp2 python -m stages.sft       # in eight processes: docs/training.md

Deviations from the paper: 9. more than one epoch and a higher learning rate by default, because the embedded base has 0.87
million parameters and a corpus of its own, not 70 billion.
"""

import shutil
from pathlib import Path

from astro.compute_profile import identity, load_compute, split_batch
from astro.files import atomic_path, read_jsonl, write_text
from astro.process import run_stage
from astro.training.launch import Log, launch, visible_gpus
from schemas.compute_profile import Compute
from schemas.records import Trace
from schemas.sft import SftMetrics
from stages.harness import CURVES, Stage, arm_argument, stage

MODEL = Path("models/base")


def main() -> None:
    """Write models/<arm> and its training curve."""
    with stage("sft", arm_argument("sft")) as s:
        # Checked before the slow imports, so that a wrong profile or a broken line is reported at once.
        compute, settings = load_compute(), s.params.sft
        split_batch(settings.batch_size, compute.micro_batch.sft, compute.world, "sft.batch_size")
        for _ in read_jsonl(s.traces, Trace):
            pass
        if settings.epochs == 0:
            keep_as_it_is(s)
        else:
            train(s, compute)


def keep_as_it_is(s: Stage) -> None:
    """For 0 epochs, publish the base model under the arm's name, so that RL starts from it."""
    with atomic_path(Path("models") / s.name) as folder:
        shutil.copytree(MODEL, folder)
    write_text(CURVES / f"{s.name}.csv", "step,loss\n")
    print(f"[{s.name}] 0 epochs: {MODEL} is published unchanged", flush=True)
    s.finish(SftMetrics(examples=0, too_long=0, tokens=0, steps=0, loss=None))


def train(s: Stage, compute: Compute) -> None:
    """Run SFT; publish the model, its curve and its metrics."""
    from astro.cloning.verbalize import load_phrases
    from astro.training.model_checks import require_fit

    settings, source = s.params.sft, s.traces
    if settings.lora.quantize != "none":
        from astro.training.lora import check_quantize

        check_quantize(settings.lora.quantize, compute, visible_gpus(compute))
    require_fit(MODEL, s.params, name="params.yaml")
    phrase_file = Path(s.params.linearize.phrase_file)
    with s.work(*identity(compute)) as work:
        given = {
            "name": s.name,
            "model": str(MODEL),
            "traces": str(source),
            "target": str(Path("models") / s.name),
            "work": str(work),
            "phrases": load_phrases(phrase_file).all(),
            "settings": settings.model_dump(),
            "seed": s.params.run.seed,
        }
        done = launch(job, given, compute=compute, work=work, log=s.log)

        from astro.training.common import tail_mean, write_curve
        from astro.training.sft import publish

        if not done["published"]:
            publish(given)
    write_curve(CURVES / f"{s.name}.csv", done["curve"])
    s.finish(
        SftMetrics(
            examples=done["examples"],
            too_long=done["too_long"],
            tokens=round(done["tokens"] * settings.epochs),
            steps=done["steps"],
            loss=tail_mean(done["curve"], "loss", 0.05),
        )
    )


def job(given: dict, compute: Compute, log: Log) -> dict:
    """The training, in this process or in each process that `launch` starts."""
    from astro.training.sft import train_job

    return train_job(given, compute, log)


if __name__ == "__main__":
    run_stage(main)
