"""Trained models of a pipeline run as MLflow's logged models: params and metrics, and weights unless they are large.

The page "Models" then compares models of different runs, and `mlflow.transformers.load_model` returns a working one. A
model is identified by its md5 in DVC, stored as a tag. Equal bytes are stored once: a run whose model is known gets
that model as its output, and its metrics are added. Weights that are not uploaded stay in DVC, where path and md5
identify them.
"""

import contextlib
import importlib.metadata
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML

from astro.files import digest_path, files_of, size_of
from astro.process import UserError
from astro.tracking import connectivity, store
from astro.tracking.names import flatten, numbers
from astro.tracking.pipeline import PIPELINES

Mode = Literal["auto", "upload", "reference"]
"""How weights are logged: values of `tracking.models`."""

AUTO_BYTES = 200_000_000
"""Size in bytes from which `auto` does not upload a model."""

PATH, MD5, WEIGHTS = "dvc.path", "dvc.md5", "weights"
"""Tags: DVC path of the model, its hash, and the place of the weights."""

UPLOADED, IN_DVC = "uploaded", "in DVC"
"""Values of the tag WEIGHTS. If another model holds the same bytes, the tag names that model."""

_FOLDER = "model"  # the weights, among a model's artifacts
_EXTERNAL = "mlflow.model.isExternal"


@dataclass(frozen=True)
class ModelInfo:
    """A trained model of this workspace."""

    name: str
    """Name of its files and of its stage, such as "grpo_direct"."""
    path: Path
    """Folder of the weights."""
    md5: str
    """DVC's hash of the weights."""
    params: Mapping[str, Any]
    """Parameters of its training."""
    metrics: Mapping[str, float]
    """Flat metrics with the same names for every model, so that models can be compared."""


def log_models(root: Path, models: Sequence[ModelInfo], *, run_id: str, mode: Mode) -> None:
    """Log the models of a pipeline run as its outputs. A second call for the same run adds what is missing.

    Args:
        root: the checkout.
        run_id: the run of `log_pipeline`; "": tracking is off.

    Raises:
        UserError: the store cannot be reached, or with `upload` the files do not match the md5.
    """
    if not run_id:
        return
    mlflow = store.load(root)
    client, uri = mlflow.MlflowClient(), mlflow.get_tracking_uri()
    with connectivity.told(uri):
        experiment = store.experiment_id(mlflow, root, PIPELINES)
    with store.locked(root, uri, ".models"), connectivity.told(uri):  # a separate lock, because an upload may take long
        outputs = client.get_run(run_id).outputs
        done = {output.model_id for output in outputs.model_outputs} if outputs else set()
        stages = _children(client, experiment, run_id)
        for info in models:
            model = _logged(mlflow, client, experiment, info, run_id, mode)
            if model.model_id not in done:
                _link(client, model.model_id, info, run_id, stages.get(info.name, run_id))


def find_model(client: Any, experiment: str, md5: str) -> Any:
    """The logged model with these bytes, preferably the one that holds them; None: there is none."""
    known = _known(client, experiment, md5)
    return next((m for m in known if _holds_weights(client, m)), known[0] if known else None)


def refer_to(mlflow: Any, experiment: str, info: ModelInfo, run_id: str) -> Any:
    """Create a logged model without weights."""
    return mlflow.create_external_model(
        name=info.name,
        source_run_id=run_id or None,
        tags={PATH: str(info.path), MD5: info.md5, WEIGHTS: IN_DVC},
        params={k: str(v)[: store.VALUE_CHARACTERS] for k, v in flatten(info.params).items()},
        experiment_id=experiment,
    )


def _known(client: Any, experiment: str, md5: str) -> list[Any]:
    found = client.search_logged_models([experiment], f"tags.`{MD5}` = '{md5}'")
    return [model for model in found if str(model.status) == "READY"]


def _holds_weights(client: Any, model: Any) -> bool:
    """Whether the artifacts are really there, because someone may have deleted them."""
    return _EXTERNAL not in model.tags and bool(client.list_logged_model_artifacts(model.model_id, _FOLDER))


def _logged(mlflow: Any, client: Any, experiment: str, info: ModelInfo, run_id: str, mode: Mode) -> Any:
    """The logged model with these bytes and this name, created if missing; weights are uploaded as `mode` says."""
    known = _known(client, experiment, info.md5)
    holder = next((m for m in known if _holds_weights(client, m)), None)
    model = next((m for m in known if m.name == info.name), None) or refer_to(mlflow, experiment, info, run_id)
    if holder is None and _to_upload(info, mode):
        _upload(client, model, info)
    elif holder is not None and holder.model_id != model.model_id:
        client.set_logged_model_tags(model.model_id, {WEIGHTS: f"those of models:/{holder.model_id} ({holder.name})"})
    return model


def _to_upload(info: ModelInfo, mode: Mode) -> bool:
    """Whether to upload. Prints the reason if not."""
    if mode == "reference":
        return False
    fault = ""
    if not info.path.is_dir():
        fault = "no such folder"
    elif mode == "auto" and (size := size_of(info.path)) >= AUTO_BYTES:
        fault = f"{size / 1e6:,.0f} MB, but tracking.models auto only uploads below {AUTO_BYTES / 1e6:.0f}"
    elif digest_path(info.path) != info.md5:
        fault = "changed since dvc.lock was written"
    if fault and mode == "upload":
        raise UserError(f"tracking.models upload: {info.path}: {fault}; run `dvc checkout {info.path}` to restore it")
    if fault:
        print(f"[models] {info.path} is not uploaded ({fault}); MLflow gets only its path and md5", flush=True)
    return not fault


def _upload(client: Any, model: Any, info: ModelInfo) -> None:
    """Upload the weights with the files that MLflow needs to load them. Until the last step the model counts as one without
    weights.
    """
    client.set_logged_model_tags(model.model_id, {_EXTERNAL: "true"})
    client.log_model_artifacts(model.model_id, str(info.path), _FOLDER)
    with _described(info) as folder:
        client.log_model_artifacts(model.model_id, str(folder))
    client.set_logged_model_tags(model.model_id, {WEIGHTS: UPLOADED})
    client.delete_logged_model_tag(model.model_id, _EXTERNAL)


@contextlib.contextmanager
def _described(info: ModelInfo) -> Iterator[Path]:
    """A folder with MLmodel (flavours transformers and pyfunc), the tokenizer and the requirements.

    It is written here because `mlflow.transformers.save_model` imports torch, copies the weights again, asks the hub
    for a model card of the local folder, and requires torchvision.
    """
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    text = Schema([ColSpec("string")])
    spec = Model(signature=ModelSignature(text, text))
    spec.model_size_bytes = size_of(info.path)
    spec.add_flavor(
        "transformers",
        transformers_version=importlib.metadata.version("transformers"),
        task="text-generation",
        instance_type="TextGenerationPipeline",
        pipeline_model_type="AutoModelForCausalLM",
        source_model_name=str(info.path),
        model_binary=_FOLDER,
        components=["tokenizer"],
        tokenizer_type="AutoTokenizer",
    )
    mlflow.pyfunc.add_to_model(spec, loader_module="mlflow.transformers", conda_env="conda.yaml")
    versions = {
        name: importlib.metadata.version(name).partition("+")[0] for name in ("mlflow", "transformers", "torch")
    }
    requirements = [f"{name}=={version}" for name, version in versions.items()]
    packages: list[Any] = [f"python={platform.python_version()}", "pip", {"pip": requirements}]
    environment = {"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": packages}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = folder / "components" / "tokenizer"
        tokenizer.mkdir(parents=True)
        for file in files_of(info.path):
            if ".safetensors" not in file.name:
                shutil.copy(file, tokenizer)
        (folder / "requirements.txt").write_text("\n".join(requirements) + "\n")
        YAML().dump(environment, folder / "conda.yaml")
        spec.save(str(folder / "MLmodel"))
        yield folder


def _children(client: Any, experiment: str, run_id: str) -> dict[str, str]:
    """Stage -> its run below the pipeline run."""
    found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'")
    return {run.data.tags.get("dvc_stage", ""): run.info.run_id for run in found}


def _link(client: Any, model_id: str, info: ModelInfo, run_id: str, stage_run: str) -> None:
    """Log the metrics to the model and to its stage's run, and register the model as an output of the pipeline run."""
    from mlflow.entities import LoggedModelOutput, Metric

    now = int(time.time() * 1000)
    entries = [Metric(k, v, now, 0, model_id=model_id, run_id=stage_run) for k, v in numbers(info.metrics).items()]
    for chunk in store.chunks(entries, store.METRICS_PER_CALL):
        client.log_batch(stage_run, metrics=chunk)
    client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])  # last, because it marks the rest as complete
