"""Checks whether the store can be reached. A failure at the start is an error before hours of work; later it costs only
curves."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError

from astro.process import UserError

SETTING = "MLFLOW_TRACKING_URI"
"""Environment variable with the store's address. It overrides the file."""

FILE = "tracking.yaml"
"""File at the root of the main checkout: `uri: https://mlflow.example.org`. No stage depends on it."""

MEND = f"start it, correct {SETTING} or {FILE}, or set ASTRO_TRACKING=off to run without tracking"

CONNECT_SECONDS = 10

_DATABASES = ("postgresql", "mysql", "mssql")


def file_uri(folder: Path) -> str | None:
    """The address in `tracking.yaml` of `folder`; None: there is no such file.

    Raises:
        UserError: the file is not valid YAML, has a key other than `uri`, or an address with a password.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        content = YAML(typ="safe").load(path)
    except YAMLError as error:
        raise UserError(f"{path}: invalid YAML: {error}") from None
    uri = content.get("uri") if isinstance(content, dict) and set(content) == {"uri"} else None
    if not isinstance(uri, str) or "://" not in uri:
        raise UserError(f"{path}: expected one line, uri: <scheme>://<host>..., got {content!r}")
    if public(uri) != uri:
        raise UserError(
            f"{path}: contains a password; put it in the environment instead: {SETTING}, MLFLOW_TRACKING_PASSWORD"
        )
    return uri


def public(text: str) -> str:
    """`text` with passwords in addresses masked."""
    return re.sub(r"(://[^/\s:@]*):[^/\s@]*@", r"\1:***@", text)


def be_impatient() -> None:
    """Shorten MLflow's retries, which would try a dead server for four minutes per call. The user's own settings stay."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")


@contextmanager
def told(uri: str) -> Iterator[None]:
    """Turn errors between us and the store into one line that names the store.

    Raises:
        UserError: MLflow, its HTTP client or its database raised an error.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # from requests, SQLAlchemy, botocore or MLflow
        raise UserError(f"{store_called(uri)}: {reason(error)}; {MEND}") from error


def store_called(uri: str) -> str:
    """Name of the store in errors."""
    return f"the tracking store {public(uri)}"


def reason(error: Exception) -> str:
    """The message of an error, in one line without passwords."""
    text = " ".join(public(str(error)).split()) or type(error).__name__
    if "Connection refused" in text or "NewConnectionError" in text or "NameResolutionError" in text:
        return "there is no server at this address"
    if re.search(
        r"\b40[13]\b|(?i:unauthorized|not authenticated|authentication failed|(permission|access) denied)", text
    ):
        return f"the server denies access (check user, password and token): {text[:200]}"
    return text[:300]


def check_database(uri: str) -> None:
    """Connect once to a database server, because MLflow would try a dead one for a minute and a half with warnings.

    Raises:
        UserError: its driver is not installed, the server is not there, or it refuses access.
    """
    scheme = uri.partition("://")[0]
    if scheme.partition("+")[0] not in _DATABASES:
        return
    import sqlalchemy

    try:
        timeout = {} if scheme.startswith("mssql") else {"connect_timeout": CONNECT_SECONDS}
        engine = sqlalchemy.create_engine(uri, connect_args=timeout)
        with engine.connect():
            pass
        engine.dispose()
    except ImportError as error:
        raise UserError(
            f"{store_called(uri)}: {error}; install the remote extra and use the driver psycopg: "
            "postgresql+psycopg://..."
        ) from None


def check_artifacts(client: Any, run_id: str, uri: str) -> None:
    """List the run's artifacts once, so that a missing bucket or wrong keys are found before the work.

    Raises:
        UserError: the artifact store does not answer.
    """
    try:
        client.list_artifacts(run_id)
    except Exception as error:
        raise UserError(
            f"{store_called(uri)}: its artifacts cannot be read: {reason(error)}; check the bucket, its address and "
            "the server's keys, or set ASTRO_TRACKING=off to run without tracking"
        ) from error
