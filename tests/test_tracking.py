"""Tracking: names, the store under two processes, stage runs, pipeline runs, models, traces."""

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
from astro.runtime import UserError
from astro.tracking import reach, store
from schemas.records import Node, Problem, Tree

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of its own, without what the caller's environment says of tracking."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_EXP_NAME", "ASTRO_TRACKING", "RANK", "MLFLOW_RUN_ID"):
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
    kept = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_EXP_NAME", "RANK")}
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
        "mcts": {"k": 4, "levels": {"3": 0.5}, "prior": None},  # None is a param like another
        "modules": ["q", "v"],  # plain lists become text
        "by_attempt": [{"attempt": 1, "right": 0.5}, {"attempt": 2, "right": None}],  # records with a key
        "pairs": [{"better": "sft", "worse": "base", "by": 0.1}],  # a key of two fields, also when one would do
        "curve": [{"step": 1, "loss": 2.0}],  # records without a key are a curve, no param
    }
    assert tracking.flatten(nested) == {
        "mcts.k": 4,
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
    ("uri: https://me:secret@mlflow.example.org", "holds a password"),  # the file is committed
    ("url: https://mlflow.example.org", "expected one line"),  # another key
    ("uri: mlflow.example.org", "expected one line"),  # no scheme: MLflow would take it for a folder
    ("uri: [", "no valid YAML"),
]


@pytest.mark.parametrize(("text", "said"), FAULTY)
def test_a_faulty_file_is_told(text: str, said: str, root: Path) -> None:
    (root / "tracking.yaml").write_text(text)
    with pytest.raises(UserError, match=said) as told:
        store.store_uri(root)
    assert "secret" not in str(told.value) or "holds" not in said


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
        reach.told(uri),
    ):
        reach.check_database(uri)
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
    with tracking.stage_run("mcts", {"k": 4, "long": "x" * 900, "nested": {"a": 1}}, root, {"domain": "d"}) as run:
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
    expected = {"dvc_stage": "mcts", "DVC_EXP_NAME": "bold-idea", "domain": "d", "more": "1"}
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
    for variable, value in (("ASTRO_TRACKING", "off"), ("RANK", "1")):  # switched off; not the first process
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            with tracking.stage_run("mcts", {"k": 1}, root) as run:
                run.log_metrics({"x": 1.0}, step=3)
                run.log_params({"a": 1})
                run.set_tags({"a": 1})
                run.log_artifact("not there")
            assert run.run_id == ""
            assert tracking.log_pipeline(root, params={}, metrics={}, stages={}, fingerprint="f") == ""
            assert tracking.register_model(root, name="astro", path="models/grpo", md5="1") == ""
            assert tracking.log_trees_as_traces(root, [], run_id="") == []
    assert list(root.iterdir()) == []


# ------------------------------------------------------------------------------------------------------ pipeline runs

STAGES = {
    "mcts": tracking.StageInfo(outs={"data/trees": "aa.dir"}, run_id="r1", cached=True, seconds=2.5),
    "sft": tracking.StageInfo(outs={"models/sft": "bb.dir"}, run_id="", cached=False),
}


def pipeline(root: Path, fingerprint: str) -> str:
    (root / "dvc.lock").write_text("schema: '2.0'")
    return tracking.log_pipeline(
        root,
        params={"mcts": {"k": 4}, "sft": {"lora": {"enabled": False}}},
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
    assert run.data.params == {"mcts.k": "4", "sft.lora.enabled": "False"}
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
    with pytest.raises(ValueError, match="these are not there"):
        tracking.log_pipeline(root, params={}, metrics={}, stages={}, fingerprint="f", artifacts=[root / "gone.html"])
    with pytest.raises(ValueError, match="expected a name"):  # breaks in the middle, after the run was opened
        tracking.log_pipeline(root, params={"": 1}, metrics={}, stages={}, fingerprint="f")
    again = tracking.log_pipeline(root, params={"a": 1}, metrics={}, stages={}, fingerprint="f")
    found = client.search_runs([client.get_experiment_by_name(tracking.PIPELINES).experiment_id])
    assert {r.info.run_id == again: r.info.status for r in found} == {False: "FAILED", True: "FINISHED"}


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
    problem = Problem(id="p1", domain="countdown", question="make 24 from 3 8", gold="24", level=2, chance=0.5)
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
