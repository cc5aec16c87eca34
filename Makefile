# make run      set up .venv and do the main job on the embedded default
# make test     set up what is missing and pass the tests, offline
# make slow     pass the tests that take minutes: kills anywhere, and the GPU's kernels without a GPU
#               (by Triton's interpreter; Triton is another 1 GB of disk)
# make check    hold the scorers to their golden cases and frozen scores
# make faults   kill, damage and fuzz commands at random for SECONDS=240, drawn from SEED=0
PYTHON ?= python3
SECONDS ?= 240
SEED ?= 0
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4

.PHONY: run test slow lint check faults

run: $(VENV)/.run-ready
	$(BIN)/python -m harness run

test: $(VENV)/.test-ready
	$(PYTEST) --dist loadgroup

# Triton's interpreter must be chosen before anything else imports Triton.
slow: $(VENV)/.test-ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt 'triton>=3.9'
	$(PYTEST) --dist loadgroup -m slow --ignore tests/kernels
	$(PYTEST) --dist load -m slow tests/kernels

check: $(VENV)/.run-ready
	$(BIN)/python -m harness check

faults: $(VENV)/.test-ready
	$(BIN)/python -m tests.faults --seconds $(SECONDS) --seed $(SEED)

lint: $(VENV)/.lint-ready
	$(BIN)/ruff check harness tasks tests
	$(BIN)/ruff format --check harness tasks tests
	$(BIN)/mypy --strict harness

$(VENV)/.run-ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "$(PYTHON) is Python %d.%d; 3.11 or newer is needed: make PYTHON=python3.12 …" % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.test-ready: $(VENV)/.run-ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@

$(VENV)/.lint-ready: $(VENV)/.run-ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
