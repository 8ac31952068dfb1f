"""Models in MLflow's registry. A version refers to the logged model of its md5, and so to the uploaded weights."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from astro.process import UserError
from astro.tracking import connectivity, store
from astro.tracking.models import MD5, PATH, ModelInfo, find_model, refer_to
from astro.tracking.pipeline import PIPELINES

CURRENT = "current"
"""Alias of the model of the last report."""


VERSIONS = "mlflow.modelVersions"
"""Tag by which MLflow's page shows a logged model as registered. `mlflow.register_model` writes the same tag."""


def check_alias(alias: str) -> None:
    """Refuse an alias that MLflow would refuse, before anything is done.

    Raises:
        UserError: not 1 to 255 letters, digits, `_` or `-`, or reserved by MLflow (latest, v1, v2 ...).
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,255}", alias):
        raise UserError(f"alias {alias!r}: expected letters, digits, _ and -")
    if re.fullmatch(r"latest|v\d+", alias, re.IGNORECASE):
        raise UserError(f"alias {alias!r}: MLflow keeps this name for itself")


def check_store(root: Path) -> None:
    """Connect to the store once before long work; does nothing if tracking is off.

    Raises:
        UserError: it cannot be reached, or refuses access.
    """
    if store.enabled():
        store.load(root)


def register_model(
    root: Path,
    *,
    name: str,
    path: str,
    md5: str,
    run_id: str = "",
    alias: str = CURRENT,
    tags: Mapping[str, Any] | None = None,
) -> str:
    """Register a model and point `alias` to it. Returns the version, or "" if tracking is off.

    An md5 is registered once, and again only if its weights have been uploaded since to another logged model. The
    aliases then move. The default alias is `current`, because MLflow reserves `latest`.

    Args:
        root: the checkout.
        name: name of the registered model, e.g. "astro".
        path: DVC path of the weights, e.g. "models/grpo".
        md5: DVC's hash of them.
        run_id: the pipeline run of the model; "": none.
        alias: the alias in `models:/<name>@<alias>`.
        tags: set on the version, even if it already exists.

    Raises:
        UserError: the store cannot be reached, or the alias is invalid.
    """
    if not store.enabled():
        return ""
    check_alias(alias)
    mlflow = store.load(root)
    client, uri = mlflow.MlflowClient(), mlflow.get_tracking_uri()
    with connectivity.told(uri):
        experiment = store.experiment_id(mlflow, root, PIPELINES)
    with store.locked(root, uri), connectivity.told(uri):
        _registered(mlflow, client, name)
        model = find_model(client, experiment, md5)
        if model is None:
            model = refer_to(mlflow, experiment, ModelInfo(Path(path).name, Path(path), md5, {}, {}), run_id)
        known = [v for v in client.search_model_versions(f"name = '{name}'") if v.tags.get(MD5) == md5]
        version = next((v.version for v in known if v.source == model.model_uri), None)
        if version is None:
            own = {PATH: path, MD5: md5}
            made = client.create_model_version(
                name, source=model.model_uri, run_id=run_id or None, tags=own, model_id=model.model_id
            )
            version = made.version
            link = json.dumps([*json.loads(model.tags.get(VERSIONS, "[]")), {"name": name, "version": str(version)}])
            client.set_logged_model_tags(model.model_id, {VERSIONS: link})
            for moved in {alias for v in known for alias in client.get_model_version(name, v.version).aliases}:
                client.set_registered_model_alias(name, moved, version)
        for key, value in (tags or {}).items():
            client.set_model_version_tag(name, version, key, str(value)[: store.TAG_CHARACTERS])
        client.set_registered_model_alias(name, alias, version)
    return str(version)


def _registered(mlflow: Any, client: Any, name: str) -> None:
    """Create the registered model if it does not exist."""
    if client.search_registered_models(f"name = '{name}'"):
        return
    try:
        client.create_registered_model(name)
    except mlflow.MlflowException:  # another machine of the team was faster
        if not client.search_registered_models(f"name = '{name}'"):
            raise
