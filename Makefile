# One runner for people and CI.  Every target sets up what it needs; `make` alone explains itself.
SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV   ?= .venv
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; exit; }; done; echo python3)
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
ARGS   ?=
export CREWKIT_DATA_DIR ?= $(CURDIR)/.crewkit

.PHONY: help init demo up down restart logs test test-cov check lint format types arch wheel build bench \
	db-shell nats-shell run-local lock clean

help: ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

init: $(STAMP) ## make .venv with the locked dependencies and the crewkit command in it

# uv when the machine has it, else uv from inside the environment, else (no way through for uv: a proxy, a mirror that only pip
# is told of) pip itself: all three install exactly requirements.lock and check its hashes.
$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@uv=$$(command -v uv || true); \
	test -n "$$uv" || { $(BIN)/python -m pip install --quiet --disable-pip-version-check uv && uv=$(BIN)/uv; }; \
	{ test -n "$$uv" && $$uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock && \
		$$uv pip install --quiet --python $(BIN)/python --no-deps -e . ; } || \
	{ $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e . ; }
	@touch $@

demo: $(STAMP) ## start everything, send recorded agent sessions, print what came out (ARGS=--once to stop afterwards)
	@$(BIN)/crewkit demo $(ARGS)

up: $(STAMP) ## start Postgres, NATS, API and workers on this machine (ARGS="--port 8001" for another port)
	@$(BIN)/crewkit up $(ARGS)

run-local: up ## the same as up

down: $(STAMP) ## stop what `make up` started
	@$(BIN)/crewkit down $(ARGS)

restart: $(STAMP) ## stop, then start in the background
	@$(BIN)/crewkit down || true
	@$(BIN)/crewkit up --detach $(ARGS)

logs: $(STAMP) ## follow the logs of the running instance
	@ls "$(CREWKIT_DATA_DIR)"/logs/*.log >/dev/null 2>&1 || { echo "nothing has run on $(CREWKIT_DATA_DIR) yet; start it with \`make up\`"; exit 1; }
	@tail -n 50 -F "$(CREWKIT_DATA_DIR)"/logs/*.log

test: $(STAMP) ## all tests, against real Postgres and NATS, a file per process, half as many again as there are processors
	@$(BIN)/pytest -n auto --dist loadfile $(ARGS)

test-cov: $(STAMP) ## all tests with branch coverage
	@$(BIN)/pytest --cov --cov-report=term-missing:skip-covered $(ARGS)

check: lint types arch test wheel ## everything CI runs

lint: $(STAMP) ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(STAMP) ## rewrite the code in house format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(STAMP) ## pyright and mypy, both strict
	@$(BIN)/pyright --warnings
	@$(BIN)/mypy

arch: $(STAMP) ## import-linter: the arrows between the rooms
	@$(BIN)/lint-imports

wheel: $(STAMP) ## build the wheel and start it from a folder that shadows `api`
	@rm -rf build/wheel && mkdir -p build/wheel
	@$(BIN)/python -m build --wheel --outdir build/wheel . >build/wheel/build.log 2>&1 || { cat build/wheel/build.log; exit 1; }
	@$(BIN)/python tests/wheel_smoke.py build/wheel

build: wheel ## the same as wheel

bench: $(STAMP) ## the table of numbers to hold, written to build/bench.json
	@mkdir -p build
	@$(BIN)/python -m tests.benchmarks $(ARGS)

db-shell: $(STAMP) ## psql on the running instance
	@$(BIN)/crewkit db-shell

nats-shell: $(STAMP) ## watch what passes through NATS on the running instance
	@$(BIN)/crewkit nats-shell

lock: $(STAMP) ## resolve pyproject.toml anew into requirements.lock
	@VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/python -m uv pip compile pyproject.toml --all-extras --group dev --universal \
		--python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate -q -o requirements.lock

clean: ## remove what building and testing left behind
	@rm -rf build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache .coverage
