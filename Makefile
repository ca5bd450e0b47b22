# Every target sets up what it needs; nothing else is to be typed first. `make help` lists them.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The first that runs and is of the right age: a version manager may have a command of that name which only complains.
PYTHON ?= $(shell for p in python3.11 python3 python3.12; do \
  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && { command -v $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
# The environment is as new as the locks: another lock is another stamp.
STAMP := $(VENV)/.complete-$(shell cat requirements.lock requirements-bootstrap.lock pyproject.toml 2>/dev/null | cksum | cut -d' ' -f1)

.PHONY: help
help: ## Show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | awk 'BEGIN {FS = ":.*## "} {printf "  make %-10s %s\n", $$1, $$2}'

$(STAMP): requirements.lock requirements-bootstrap.lock pyproject.toml
	@test -n "$(PYTHON)" \
	  || { echo "Python 3.11 or 3.12 is needed and python3 is neither: install it (Debian: apt-get install python3 python3-venv) or say make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "[1/3] environment in $(VENV)"
	@"$(PYTHON)" -m venv --clear $(VENV) || { echo "python -m venv failed: on Debian, apt-get install python3-venv"; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock
	@echo "[2/3] locked dependencies"
	@$(BIN)/uv pip install --system-certs --require-hashes -r requirements.lock
	@echo "[3/3] thalweg itself"
	@$(BIN)/uv pip install --system-certs --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: setup
setup: $(STAMP) ## Environment, servers and model: everything that is fetched or built, once per machine
	@$(BIN)/thalweg setup

.PHONY: check
check: $(STAMP) ## The fast part: format, lint, types, import rules, unit tests (under 90 s)
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet . && echo "ruff: clean"
	@$(BIN)/mypy --no-error-summary && echo "mypy: clean"
	@$(BIN)/lint-imports --no-logo | tail -n 3
	@$(BIN)/pytest -q -m "not real and not slow" tests/unit tests/property tests/simulation tests/mutation tests/security tests/house

.PHONY: test
test: setup ## Every test, real servers included
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet . && echo "ruff: clean"
	@$(BIN)/mypy --no-error-summary && echo "mypy: clean"
	@$(BIN)/lint-imports --no-logo | tail -n 3
	@$(BIN)/pytest

.PHONY: faults
faults: setup ## The whole fault matrix on this machine, with a table of what came of it (about 40 min)
	@$(BIN)/python -m tests.faults

.PHONY: demo
demo: setup ## Start everything, load a small corpus by CDC and by upload, ask a question
	@$(BIN)/thalweg demo

.PHONY: up
up: setup ## Start the local stack
	@$(BIN)/thalweg up

.PHONY: down
down: $(STAMP) ## Stop the local stack; data is kept
	@$(BIN)/thalweg down

.PHONY: bench
bench: setup ## Measure: calls and real edits beside the peers, freshness (BENCH="calls edits stack lanes search quality" picks)
	@$(BIN)/python -m tests.bench $(BENCH)

.PHONY: format
format: $(STAMP) ## Bring the code into shape
	@$(BIN)/ruff format --quiet . && $(BIN)/ruff check --fix --quiet .

.PHONY: lock
lock: $(STAMP) ## Pin anew what pyproject.toml allows
	@$(BIN)/uv pip compile --system-certs --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-annotate --no-header --group dev --all-extras -o requirements.lock pyproject.toml
	@$(BIN)/python -m deploy.images.packages
	@echo "uv==$$($(BIN)/uv --version | cut -d' ' -f2)" | $(BIN)/uv pip compile --quiet --universal --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header -o requirements-bootstrap.lock -
