"""Tracking: names, the store under two processes, stage runs, pipeline runs, models, traces."""

import json
import math
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from astro import tracking
from astro.files import digest_path
from astro.process import UserError
from astro.tracking import connectivity, models, store
from schemas.records import Node, Problem, Tree

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of its own, without what the caller's environment says of tracking."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_EXP_NAME", "ASTRO_TRACKING", *store.LEFT_OVER):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without runs: making one takes a second or two, copying it does not."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("DVC_ROOT", raising=False)
        store.load(folder)
    return folder / "mlflow.db"


@pytest.fixture
def client(root: Path, fresh_database: Path):
    """MLflow's own view of the store at `root`."""
    shutil.copy(fresh_database, root)
    return store.load(root).MlflowClient()


def child_environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_EXP_NAME")}
    return {**kept, "PYTHONPATH": str(REPOSITORY), "ASTRO_TRACKING": "on"}


# ------------------------------------------------------------------------------------------------------------- names

NAMES = [
    ("pass@1", "pass_at_1"),  # the field's own spelling is refused by MLflow
    ("sft/loss", "sft/loss"),  # groups stay
    ("maj@k (16)", "maj_at_k _16_"),  # brackets are refused
    ("a//b/", "a/b"),  # a path that is not clean is refused
    ("/abs", "abs"),  # so is an absolute one
    ("Größe", "Gr__e"),  # ASCII only, for servers of any platform
    ("data/eval_3.jsonl", "data/eval_3.jsonl"),  # paths are names
]


@pytest.mark.parametrize(("name", "legal"), NAMES)
def test_names_are_made_legal(name: str, legal: str) -> None:
    assert tracking.legal_name(name) == legal


def test_mlflow_accepts_every_legal_name() -> None:
    validation = pytest.importorskip("mlflow.utils.validation")
    for name, _ in NAMES:
        validation._validate_metric_name(tracking.legal_name(name))


@pytest.mark.parametrize("name", ["", "/", "..", "../up", "x" * 251])
def test_hopeless_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected a name"):
        tracking.legal_name(name)


def test_flatten() -> None:
    nested = {
        "mcts": {"num_actions": 4, "levels": {"3": 0.5}, "prior": None},  # None is a param like another
        "modules": ["q", "v"],  # plain lists become text
        "by_attempt": [{"attempt": 1, "right": 0.5}, {"attempt": 2, "right": None}],  # records with a key
        "pairs": [{"better": "sft", "worse": "base", "by": 0.1}],  # a key of two fields, also when one would do
        "curve": [{"step": 1, "loss": 2.0}],  # records without a key are a curve, no param
    }
    assert tracking.flatten(nested) == {
        "mcts.num_actions": 4,
        "mcts.levels.3": 0.5,
        "mcts.prior": None,
        "modules": '["q", "v"]',
        "by_attempt.1.right": 0.5,
        "by_attempt.2.right": None,
        "pairs.sft-base.by": 0.1,
    }


def test_flatten_refuses_two_entries_of_one_name() -> None:
    with pytest.raises(ValueError, match=r"both named 'a\.b'"):
        tracking.flatten({"a.b": 1, "a": {"b": 2}})


def test_numbers_keep_numbers_only() -> None:
    nested = {"loss": 1, "note": "x", "none": None, "ok": True, "bad": math.nan, "set": {"pass@1": 0.5}}
    assert tracking.numbers(nested, prefix="sft") == {"sft/loss": 1.0, "sft/ok": 1.0, "sft/set/pass_at_1": 0.5}


# ------------------------------------------------------------------------------------------------------------- store


def test_two_processes_create_the_store_at_once(root: Path) -> None:
    code = (
        "import sys, pathlib; from astro import tracking\n"
        "with tracking.stage_run(sys.argv[2], {'k': 1}, pathlib.Path(sys.argv[1])) as run: run.log_metrics({'x': 1.0})"
    )
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(root), f"stage{i}"],
            env=child_environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    errors = [job.communicate(timeout=120)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], errors
    assert all("alembic" not in error and "database tables" not in error for error in errors), errors
    client = store.load(root).MlflowClient()
    experiments = [e for e in client.search_experiments() if e.name == tracking.STAGES]
    assert len(experiments) == 1
    runs = client.search_runs([experiments[0].experiment_id])
    assert {run.info.run_name for run in runs} == {"stage0", "stage1"}
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_the_store_stands_in_the_main_checkout(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.store_uri(root) == f"sqlite:///{root}/mlflow.db"
    monkeypatch.setenv("DVC_ROOT", str(root / "main"))
    assert store.store_uri(root / "copy") == f"sqlite:///{root}/main/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://team:5000")  # what the user set wins
    assert store.store_uri(root) == "http://team:5000"


def test_the_address_may_stand_in_a_file_of_the_main_checkout(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "tracking.yaml").write_text("uri: https://mlflow.example.org\n")
    monkeypatch.setenv("DVC_ROOT", str(root))
    assert store.store_uri(root / "copy") == "https://mlflow.example.org"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://other:5000")
    assert store.store_uri(root) == "http://other:5000"


FAULTY = [
    ("uri: https://me:secret@mlflow.example.org", "contains a password"),  # the file is committed
    ("url: https://mlflow.example.org", "expected one line"),  # another key
    ("uri: mlflow.example.org", "expected one line"),  # no scheme: MLflow would take it for a folder
    ("uri: [", "invalid YAML"),
]


@pytest.mark.parametrize(("text", "said"), FAULTY)
def test_a_faulty_file_is_told(text: str, said: str, root: Path) -> None:
    (root / "tracking.yaml").write_text(text)
    with pytest.raises(UserError, match=said) as told:
        store.store_uri(root)
    assert "secret" not in str(told.value) or "contains" not in said


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("address", ["http://127.0.0.1:{}", "http://me:secret@127.0.0.1:{}"])
def test_a_server_that_is_not_there_is_told_before_the_stage(
    address: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.format(closed_port()))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    begun = []
    with (
        pytest.raises(UserError, match="there is no server at this address") as told,
        tracking.stage_run("mcts", {}, root),
    ):
        begun.append(1)
    assert not begun
    assert "secret" not in str(told.value)


def test_a_database_that_is_not_there_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow by itself would try for a minute and a half. Without the driver that is what is said."""
    uri = f"postgresql+psycopg://me:secret@127.0.0.1:{closed_port()}/mlflow"
    with (
        pytest.raises(UserError, match=r"there is no server at this address|the remote extra") as told,
        connectivity.told(uri),
    ):
        connectivity.check_database(uri)
    assert "secret" not in str(told.value)


@pytest.mark.usefixtures("client")
def test_a_second_root_gets_its_own_store(root: Path) -> None:
    """MLflow writes the address it is given into the variable that a user sets; that must not stick."""
    assert os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{root}/mlflow.db"
    assert store.store_uri(root / "two") == f"sqlite:///{root}/two/mlflow.db"


@pytest.mark.usefixtures("client")
def test_nothing_is_sent_home() -> None:
    from mlflow.telemetry import get_telemetry_client

    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert get_telemetry_client() is None


@pytest.mark.slow
def test_nothing_is_sent_home_where_a_trainer_imports_mlflow() -> None:
    """TRL does, in processes of training that track nothing."""
    code = """
import astro.training.grpo, trl, sys
trl.GRPOTrainer
from mlflow.telemetry import get_telemetry_client
assert get_telemetry_client() is None
"""
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


# --------------------------------------------------------------------------------------------------------- stage runs


def test_stage_run(root: Path, client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "bold-idea")
    (root / "note.txt").write_text("hello")
    with tracking.stage_run("mcts", {"k": 4, "long": "x" * 900, "nested": {"a": 1}}, root, {"task": "d"}) as run:
        for step in range(1234):  # more than one write holds
            run.log_metrics({"search/q@1": step / 2, "absent": None}, step=step)
        run.log_artifact(root / "note.txt")
        run.set_tags({"more": 1})
    info = client.get_run(run.run_id)
    assert (info.info.status, info.info.run_name) == ("FINISHED", "mcts")
    assert info.data.params == {"k": "4", "long": "x" * 500, "nested.a": "1"}
    assert info.data.metrics == {"search/q_at_1": 1233 / 2}
    history = client.get_metric_history(run.run_id, "search/q_at_1")
    assert sorted(point.step for point in history) == list(range(1234))
    expected = {"dvc_stage": "mcts", "DVC_EXP_NAME": "bold-idea", "task": "d", "more": "1"}
    assert expected.items() <= info.data.tags.items()
    assert (root / "mlartifacts/stages" / run.run_id / "artifacts/note.txt").read_text() == "hello"


def test_failed_stage_run_is_marked(root: Path, client) -> None:
    runs = []

    def stage() -> None:
        with tracking.stage_run("sft", {}, root) as run:
            runs.append(run.run_id)
            run.log_metrics({"loss": 1.0}, step=1)
            raise RuntimeError("engine died")

    with pytest.raises(RuntimeError, match="engine died"):
        stage()
    info = client.get_run(runs[0])
    assert (info.info.status, info.data.metrics) == ("FAILED", {"loss": 1.0})


def test_run_of_a_killed_process_is_closed_by_the_next(root: Path, client) -> None:
    code = (
        "import os, sys, pathlib; from astro import tracking\n"
        "with tracking.stage_run('grpo', {}, pathlib.Path(sys.argv[1])) as run: os.kill(os.getpid(), 9)"
    )
    job = subprocess.run([sys.executable, "-c", code, str(root)], env=child_environment(), timeout=120, check=False)
    assert job.returncode == -signal.SIGKILL
    with tracking.stage_run("grpo", {}, root) as run:
        found = client.search_runs([client.get_experiment_by_name(tracking.STAGES).experiment_id])
        assert {r.info.run_id == run.run_id: r.info.status for r in found} == {False: "KILLED", True: "RUNNING"}


def test_metrics_that_cannot_be_written_do_not_stop_a_stage(caplog: pytest.LogCaptureFixture) -> None:
    class Flaky:
        """A client whose store is away until `there`."""

        there = False
        written = 0

        def log_batch(self, run_id: str, metrics: list) -> None:
            if not self.there:
                raise OSError("store is away")
            self.written += len(metrics)

    client = Flaky()
    tracker = tracking.MlflowTracker(client, "run")
    for step in range(300):
        tracker.log_metrics({"loss": 1.0}, step)
    assert "store is away" in caplog.text
    client.there = True
    tracker.close()
    assert client.written == 300  # none is lost


def test_a_store_that_goes_away_does_not_end_a_stage(root: Path, client, caplog: pytest.LogCaptureFixture) -> None:
    with tracking.stage_run("sft", {"k": 1}, root) as run:
        database = sqlite3.connect(root / "mlflow.db")
        for table in ("metrics", "tags", "latest_metrics"):
            database.execute(f"ALTER TABLE {table} RENAME TO lost_{table}")
        database.commit()
        run.log_metrics({"loss": 1.0}, step=1)
        run.set_tags({"late": 1})
        with pytest.raises(ValueError, match="expected a file"):  # a mistake of ours stays one
            run.log_artifact(root / "gone.txt")
    assert "1 metric points could not be written" in caplog.text
    assert "tags could not be written" in caplog.text
    for table in ("metrics", "tags", "latest_metrics"):
        database.execute(f"ALTER TABLE lost_{table} RENAME TO {table}")
    database.close()


def test_null_tracker_leaves_no_trace(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASTRO_TRACKING", "off")
    with tracking.stage_run("mcts", {"k": 1}, root) as run:
        run.log_metrics({"x": 1.0}, step=3)
        run.log_params({"a": 1})
        run.set_tags({"a": 1})
        run.log_artifact("not there")
    assert run.run_id == ""
    assert tracking.log_pipeline(root, params={}, metrics={}, stages={}, fingerprint="f") == ""
    assert tracking.register_model(root, name="astro", path="models/grpo", md5="1") == ""
    tracking.log_models(root, [], run_id="", mode="upload")
    assert tracking.log_trees_as_traces(root, [], run_id="") == []
    assert list(root.iterdir()) == []


def test_a_rank_left_in_the_shell_turns_nothing_off(root: Path, client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    with tracking.stage_run("sft", {}, root) as run:
        run.log_metrics({"loss": 1.0})
    assert client.get_run(run.run_id).data.metrics == {"loss": 1.0}


@pytest.mark.parametrize("name", store.LEFT_OVER)
def test_a_variable_that_leads_elsewhere_is_ignored_and_told(
    name: str, root: Path, client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """MLflow would resume that run, or write to that experiment."""
    monkeypatch.setenv(name, "deadbeef")
    with tracking.stage_run("sft", {}, root) as run:
        pass
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert client.get_experiment(client.get_run(run.run_id).info.experiment_id).name == tracking.STAGES
    assert f"{name}=deadbeef: ignored" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------- paths of checkouts

NAMES_OF_FOLDERS = ["a?b", "a%b", "a%3Fb", "a#b", "a b", "Größe", "a&b=c", "a+b"]
"""SQLAlchemy takes `?` for settings and unquotes `%`; the others are special in addresses."""


@pytest.mark.parametrize("name", NAMES_OF_FOLDERS)
def test_the_store_stands_in_a_checkout_of_any_name(name: str, root: Path, fresh_database: Path) -> None:
    checkout = root / name
    checkout.mkdir()
    shutil.copy(fresh_database, checkout)
    (checkout / "note.txt").write_text("hello")
    with tracking.stage_run("sft", {}, checkout) as run:
        run.log_artifact(checkout / "note.txt")
    assert (checkout / "mlartifacts/stages" / run.run_id / "artifacts/note.txt").read_text() == "hello"
    rows = sqlite3.connect(checkout / "mlflow.db").execute("SELECT run_uuid FROM runs").fetchall()
    assert rows == [(run.run_id,)]
    assert [p.name for p in root.iterdir()] == [name], "something was made beside the checkout"


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:////a/b.db", "/a/b.db"),
        ("sqlite+pysqlite:////a%3Fb/c.db", "/a?b/c.db"),
        ("sqlite:////a/b.db?timeout=5", "/a/b.db"),
        ("postgresql://host/db", None),
        ("https://host/sqlite:///x", None),
    ],
)
def test_the_file_of_an_address(uri: str, file: str | None) -> None:
    assert store.database_file(uri) == (Path(file) if file else None)


@pytest.mark.parametrize("old_is_there", [True, False])
def test_a_copied_checkout_keeps_its_own_artifacts(old_is_there: bool, root: Path, fresh_database: Path) -> None:
    """MLflow keeps absolute addresses: the copy would write into the old checkout's folder."""
    old, new = root / "old", root / "new one"
    old.mkdir()
    shutil.copy(fresh_database, old)
    (old / "note.txt").write_text("hello")
    with tracking.stage_run("sft", {}, old) as first:
        first.log_artifact(old / "note.txt")
    with tracking.stage_run("mcts", {}, old) as cleared:
        cleared.log_artifact(old / "note.txt")
    shutil.copytree(old, new)
    shutil.rmtree(new / "mlartifacts/stages" / cleared.run_id)  # copied without it: its address stays
    if not old_is_there:
        shutil.rmtree(old)
    with tracking.stage_run("sft", {}, new) as second:
        second.log_artifact(new / "note.txt")
    assert (new / "mlartifacts/stages" / second.run_id / "artifacts/note.txt").read_text() == "hello"
    if old_is_there:
        assert {p.name for p in (old / "mlartifacts/stages").iterdir()} == {first.run_id, cleared.run_id}
    client = store.load(new).MlflowClient()
    assert (
        client.get_run(first.run_id).info.artifact_uri == f"{new.as_uri()}/mlartifacts/stages/{first.run_id}/artifacts"
    )
    assert client.get_run(cleared.run_id).info.artifact_uri.startswith(f"{old.as_uri()}/")


def ui(*arguments: str, root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "astro.tracking", "ui", "--root", str(root), *arguments],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_port_that_is_taken_is_told(root: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = ui("--port", str(port), root=root)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: port {port} is in use, perhaps by another `make ui`; choose another port: make ui PORT={port + 1}"
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--port", "70000"), "port 70000: expected 1 to 65535"), (("--host", "203.0.113.1"), "cannot be used")],
)
def test_a_port_that_cannot_be_had_is_told(arguments: tuple[str, ...], said: str, root: Path) -> None:
    done = ui(*arguments, root=root)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


# ------------------------------------------------------------------------------------------------------ pipeline runs

STAGES = {
    "mcts": tracking.StageInfo(outs={"data/trees": "aa.dir"}, run_id="r1", cached=True, seconds=2.5),
    "sft": tracking.StageInfo(outs={"models/sft": "bb.dir"}, run_id="", cached=False),
}


def pipeline(root: Path, fingerprint: str) -> str:
    (root / "dvc.lock").write_text("schema: '2.0'")
    return tracking.log_pipeline(
        root,
        params={"mcts": {"num_actions": 4}, "sft": {"lora": {"enabled": False}}},
        metrics={"mcts/solved": 0.5, "sft/loss": None, "eval/sets/three/pass@1": 0.25},
        stages=STAGES,
        fingerprint=fingerprint,
        artifacts=[root / "dvc.lock"],
        table={"question": ["make 24"], "text": ["3 * 8"]},
    )


def test_pipeline_runs_once_per_fingerprint(root: Path, client) -> None:
    first = pipeline(root, "f" * 64)
    assert pipeline(root, "f" * 64) == first
    assert pipeline(root, "e" * 64) != first
    run = client.get_run(first)
    assert run.info.run_name == "ffffffff"
    assert run.data.params == {"mcts.num_actions": "4", "sft.lora.enabled": "False"}
    assert run.data.metrics == {"mcts/solved": 0.5, "eval/sets/three/pass_at_1": 0.25}
    assert {"md5/mcts/data/trees": "aa.dir", "run_id/mcts": "r1"}.items() <= run.data.tags.items()
    assert "last_seen" in run.data.tags
    assert sorted(f.path for f in client.list_artifacts(first)) == ["dvc.lock", "samples.json"]
    children = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{first}'")
    assert {c.info.run_name: c.data.tags["cached"] for c in children} == {"mcts": "true", "sft": "false"}
    mcts = next(c for c in children if c.info.run_name == "mcts")
    assert mcts.data.metrics == {"mcts/solved": 0.5, "seconds": 2.5}
    assert len(client.search_runs([run.info.experiment_id])) == 2 * (1 + len(STAGES))


def test_pipeline_run_that_failed_is_made_again(root: Path, client) -> None:
    with pytest.raises(ValueError, match="these are missing"):
        tracking.log_pipeline(root, params={}, metrics={}, stages={}, fingerprint="f", artifacts=[root / "gone.html"])
    with pytest.raises(ValueError, match="expected a name"):  # breaks in the middle, after the run was opened
        tracking.log_pipeline(root, params={"": 1}, metrics={}, stages={}, fingerprint="f")
    again = tracking.log_pipeline(root, params={"a": 1}, metrics={}, stages={}, fingerprint="f")
    found = client.search_runs([client.get_experiment_by_name(tracking.PIPELINES).experiment_id])
    assert {r.info.run_id == again: r.info.status for r in found} == {False: "FAILED", True: "FINISHED"}


def model(folder: Path, weights: str, **metrics: float) -> tracking.ModelInfo:
    """A folder of a model in all but the weights, which are text."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_text(weights)
    (folder / "config.json").write_text("{}")
    return tracking.ModelInfo(folder.name, folder, digest_path(folder), {"sft": {"lr": 0.1}}, metrics)


def logged(root: Path, fingerprint: str, *models: tracking.ModelInfo, mode: str = "auto") -> str:
    run_id = pipeline(root, fingerprint)
    tracking.log_models(root, models, run_id=run_id, mode=mode)
    return run_id


def logged_models(client, run_id: str) -> dict:
    """Name -> logged model, of the outputs of a run."""
    outputs = client.get_run(run_id).outputs.model_outputs
    found = [client.get_logged_model(output.model_id) for output in outputs]
    assert len({m.name for m in found}) == len(found), "a model is named twice"
    return {m.name: m for m in found}


def stored(root: Path) -> list[str]:
    """Weights in the store."""
    return sorted(p.read_text() for p in (root / "mlartifacts").rglob("model.safetensors"))


def test_models_are_logged_with_their_metrics_and_weights(root: Path, client) -> None:
    run_id = logged(
        root, "f", model(root / "models/sft", "one", loss=0.5), model(root / "models/grpo", "two", loss=0.25)
    )
    found = logged_models(client, run_id)
    assert set(found) == {"sft", "grpo"}
    sft = found["sft"]
    assert sft.source_run_id == run_id
    assert sft.params == {"sft.lr": "0.1"}
    assert {m.key: m.value for m in sft.metrics} == {"loss": 0.5}
    assert sft.tags["dvc.md5"] == digest_path(root / "models/sft")
    assert sft.tags["weights"] == "uploaded"
    assert stored(root) == ["one", "two"]
    children = client.search_runs([client.get_run(run_id).info.experiment_id], "attributes.run_name = 'sft'")
    assert {m.run_id for m in sft.metrics} == {children[0].info.run_id}, "four models would share a name in one run"


def test_the_page_shows_which_models_are_registered(root: Path, client) -> None:
    info = model(root / "models/grpo", "one")
    run_id = logged(root, "f", info)
    version = tracking.register_model(root, name="astro", path="models/grpo", md5=info.md5, run_id=run_id)
    tags = logged_models(client, run_id)["grpo"].tags
    assert json.loads(tags["mlflow.modelVersions"]) == [{"name": "astro", "version": version}]


def test_a_second_report_of_the_same_run_adds_nothing(root: Path, client) -> None:
    info = model(root / "models/sft", "one", loss=0.5)
    first = logged(root, "f", info)
    assert logged(root, "f", info) == first
    assert len(logged_models(client, first)["sft"].metrics) == 1
    assert stored(root) == ["one"]


def test_equal_bytes_are_stored_once(root: Path, client) -> None:
    """Two runs with the same model share it; a training of 0 steps has a name of its own and the bytes of the other."""
    first = logged(root, "f", model(root / "models/sft", "one", loss=0.5))
    second = logged(
        root, "g", model(root / "models/sft", "one", loss=0.4), model(root / "models/grpo", "one", loss=0.4)
    )
    assert stored(root) == ["one"]
    ours, theirs = logged_models(client, first), logged_models(client, second)
    assert ours["sft"].model_id == theirs["sft"].model_id
    assert sorted(m.value for m in theirs["sft"].metrics) == [0.4, 0.5]
    assert theirs["grpo"].tags["weights"] == f"those of models:/{ours['sft'].model_id} (sft)"
    md5 = digest_path(root / "models/grpo")
    tracking.register_model(root, name="astro", path="models/grpo", md5=md5, run_id=second)
    assert client.get_model_version_by_alias("astro", "current").source == f"models:/{ours['sft'].model_id}"


def test_large_models_stay_in_dvc(
    root: Path, client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(models, "AUTO_BYTES", 5)
    info = model(root / "models/sft", "one", loss=0.5)
    found = logged_models(client, logged(root, "f", info))
    assert (found["sft"].tags["weights"], len(found["sft"].metrics)) == ("in DVC", 1)
    assert "not uploaded" in capsys.readouterr().out
    assert stored(root) == []
    version = tracking.register_model(root, name="astro", path="models/sft", md5=info.md5, alias="production")
    # asked for later on: the same logged model gets the weights, and the same version means them
    again = logged_models(client, logged(root, "f", info, mode="upload"))
    assert again["sft"].model_id == found["sft"].model_id
    assert (again["sft"].tags["weights"], stored(root)) == ("uploaded", ["one"])
    assert tracking.register_model(root, name="astro", path="models/sft", md5=info.md5) == version


def test_reference_uploads_nothing(root: Path, client) -> None:
    found = logged_models(client, logged(root, "f", model(root / "models/sft", "one"), mode="reference"))
    assert found["sft"].tags["weights"] == "in DVC"
    assert stored(root) == []


def test_the_version_of_an_older_release_is_replaced_by_one_that_loads(root: Path, client) -> None:
    """Until now a version pointed to a logged model without weights, named as the registered model is."""
    info = model(root / "models/grpo", "one")
    old = tracking.register_model(
        root, name="astro", path="models/astro", md5=info.md5, alias="production"
    )  # the logged model is called astro
    run_id = logged(root, "f", info)
    new = tracking.register_model(root, name="astro", path="models/grpo", md5=info.md5, run_id=run_id)
    assert new != old
    source = f"models:/{logged_models(client, run_id)['grpo'].model_id}"
    for alias in ("current", "production"):
        assert client.get_model_version_by_alias("astro", alias).source == source


@pytest.mark.parametrize("mode", ["auto", "upload"])
def test_files_that_are_not_those_of_the_md5_are_not_uploaded(
    mode: str, root: Path, client, capsys: pytest.CaptureFixture[str]
) -> None:
    info = model(root / "models/sft", "one")
    (root / "models/sft/model.safetensors").write_text("another")
    if mode == "upload":
        with pytest.raises(UserError, match=r"changed since dvc\.lock was written; run `dvc checkout"):
            logged(root, "f", info, mode=mode)
    else:
        logged(root, "f", info)
        assert "changed since dvc.lock was written" in capsys.readouterr().out
    assert stored(root) == []


def test_weights_that_someone_removed_are_uploaded_again(root: Path, client) -> None:
    info = model(root / "models/sft", "one")
    run_id = logged(root, "f", info)
    shutil.rmtree(root / "mlartifacts/pipelines/models" / logged_models(client, run_id)["sft"].model_id)
    logged(root, "f", info)
    assert stored(root) == ["one"]


def test_an_upload_that_broke_off_is_made_again(root: Path, client, monkeypatch: pytest.MonkeyPatch) -> None:
    info = model(root / "models/sft", "one")
    with monkeypatch.context() as patch:
        patch.setattr(models, "_described", lambda info: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(UserError, match="disk full"):
            logged(root, "f", info)
    assert logged_models(client, logged(root, "f", info))["sft"].tags["weights"] == "uploaded"
    assert stored(root) == ["one"]


@pytest.mark.slow
def test_models_on_a_server(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Artifacts go through the server, as they do to a bucket (tests/remote); equal bytes are sent once."""
    import mlflow

    from tests.remote import servers

    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
    kept = tmp_path / "kept"
    with servers.mlflow(f"sqlite:///{tmp_path}/m.db", kept.as_uri(), tmp_path) as (url, _):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        info = model(root / "models/grpo", "one", loss=0.5)
        for fingerprint in ("f", "g"):
            run_id = logged(root, fingerprint, info)
            tracking.register_model(root, name="astro", path="models/grpo", md5=info.md5, run_id=run_id)
        assert [p.read_text() for p in kept.rglob("model.safetensors")] == ["one"]
        loaded = mlflow.artifacts.download_artifacts("models:/astro@current", dst_path=str(tmp_path / "loaded"))
    assert (Path(loaded) / "model/model.safetensors").read_text() == "one"
    assert (Path(loaded) / "components/tokenizer/config.json").is_file()


LOAD = """
import sys, mlflow, mlflow.transformers
mlflow.set_tracking_uri(sys.argv[1])
generate = mlflow.transformers.load_model("models:/astro@current")
how = dict(min_new_tokens=6, max_new_tokens=6, do_sample=False, return_full_text=False)
print([out["generated_text"] for out in generate("make 9 from 4 5", **how)])
assert not [name for name in sys.modules if name.startswith(("astro", "schemas", "stages"))]
"""


@pytest.mark.slow
def test_a_fresh_process_loads_the_registered_model(root: Path, client) -> None:
    """With nothing of the project: MLflow, transformers and torch. The tokenizer is one of whole words."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tests.inference.tiny import save_tiny_model

    folder = root / "models/grpo"
    save_tiny_model(folder)
    info = tracking.ModelInfo("grpo", folder, digest_path(folder), {}, {})
    run_id = logged(root, "f", info)
    tracking.register_model(root, name="astro", path="models/grpo", md5=info.md5, run_id=run_id)
    kept = {k: v for k, v in child_environment().items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, store.store_uri(root)],
        cwd=root,
        env=kept,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tokenizer, here = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    asked = tokenizer("make 9 from 4 5", return_tensors="pt")
    written = here.generate(**asked, min_new_tokens=6, max_new_tokens=6, do_sample=False)[
        0, asked["input_ids"].shape[1] :
    ]
    expected = tokenizer.decode(written, skip_special_tokens=True)
    assert len(expected.split()) >= 3
    assert done.stdout.strip().splitlines()[-1] == repr([expected])


def test_a_model_is_registered_once_per_md5(root: Path, client) -> None:
    run_id = pipeline(root, "f")
    versions = [
        tracking.register_model(root, name="astro", path="models/grpo", md5=md5, run_id=run_id)
        for md5 in ("one", "two", "one")  # going back to a state that was there moves the alias back
    ]
    assert versions == ["1", "2", "1"]
    current = client.get_model_version_by_alias("astro", "current")
    assert (str(current.version), current.tags) == ("1", {"dvc.path": "models/grpo", "dvc.md5": "one"})
    tags = {"export.commit": "abc"}
    again = tracking.register_model(root, name="astro", path="models/grpo", md5="two", alias="production", tags=tags)
    produced = client.get_model_version_by_alias("astro", "production")
    assert (again, produced.tags["export.commit"], produced.run_id) == ("2", "abc", run_id)


# ------------------------------------------------------------------------------------------------------------- traces


def node(index: int, parent: int, depth: int, *, terminal: bool = False) -> Node:
    return Node(
        index=index,
        parent=parent,
        depth=depth,
        text=f"step {index}" if index else "",
        prior=1.0,
        visits=1,
        q=0.5,
        reward=0.5,
        terminal=terminal,
        answer="24" if terminal else None,
        verdict="correct" if terminal else None,
        rollouts=[],
    )


def test_trees_become_nested_traces(root: Path, client) -> None:
    problem = Problem(id="p1", task="countdown", question="make 24 from 3 8", gold="24", level=2, chance=0.5)
    nodes = [node(0, -1, 0), node(1, 0, 1), node(2, 0, 1), node(3, 1, 2, terminal=True), node(4, 2, 2)]
    tree = Tree(problem=problem, nodes=nodes, iterations=2, requests=3, tokens=40)
    run_id = pipeline(root, "f")
    made = tracking.log_trees_as_traces(root, [tree, tree, tree], run_id=run_id, limit=2, max_spans=4)
    assert len(made) == 2
    spans = client.get_trace(made[0]).data.spans
    assert sorted(s.name for s in spans) == ["step 1", "step 2", "step 3", "tree p1"]
    by_name = {s.name: s for s in spans}
    assert by_name["step 3"].parent_id == by_name["step 1"].span_id
    assert by_name["step 1"].parent_id == by_name["tree p1"].span_id
    assert by_name["step 3"].outputs == {"verdict": "correct", "answer": "24"}
    assert by_name["step 1"].attributes["visits"] == 1
    assert tracking.log_trees_as_traces(root, [tree], run_id=run_id) == []  # the same run gets no second set


def test_the_points_of_validation_are_no_params_and_no_metrics_of_a_run():
    """They are a curve, and two may have the same figures."""
    from schemas.grpo import ValidationMetrics, ValidationPoint

    points = [ValidationPoint(step=s, pass_at_1=0.5, length=3.0, mean_backtracks=0.0, truncated=0.0) for s in (0, 5)]
    found = ValidationMetrics(problems=4, points=points, published_step=5, stopped_early=False).model_dump()
    assert tracking.numbers(found) == {"problems": 4.0, "published_step": 5.0, "stopped_early": 0.0}
