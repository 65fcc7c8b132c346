# Everything a person or a machine does here. `make` alone lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --constraint constraints.txt

# For the demo, the tests and a benchmark: ARGS="--minutes 30" and the like. For test-all: DATA_DIR=folder.
ARGS ?=
DATA_DIR ?=
BENCH ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-engines lint format bench clean

help: ## list what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.ready ## pretrain, fine-tune and measure a GPT and a BERT, and open the report; ARGS="--minutes 30"
	$(BIN)/bothways demo $(ARGS)

test: $(VENV)/.ready-dev ## run the tests, a file on each core; ARGS="-k name"
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

test-all: $(VENV)/.ready-dev ## run the slow tests too; DATA_DIR=folder adds those on real data sets
	$(BIN)/python -m pytest --slow $(if $(DATA_DIR),--data-dir "$(DATA_DIR)") $(ARGS)

test-engines: $(VENV)/.ready-engines ## run models in ONNX Runtime, OpenVINO, llama.cpp and evaluation harnesses
	$(BIN)/python -m pytest --engines -m engines $(ARGS)

lint: $(VENV)/.ready-dev ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.ready-dev ## put style and format right where that can be done by machine
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.ready-dev ## run a benchmark, BENCH=start ARGS="..."; without a name, say which there are
	@if [ -n "$(BENCH)" ]; then $(BIN)/python "bench/$(BENCH).py" $(ARGS); else \
		for script in bench/*.py; do printf '%-16s %s\n' "$$(basename "$$script" .py)" "$$(sed -n '1s/^"""//p' "$$script")"; done; fi

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

# A stamp is newer than the files that say what to install, so each is installed once and again when they change.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "bothways needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo not there);" \
			"name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Installing into $(VENV): some minutes the first time, nothing after that."
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --upgrade pip
	$(PIP_INSTALL) --editable '.[chinese]'
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(PIP_INSTALL) --group dev
	@touch $@

$(VENV)/.ready-engines: $(VENV)/.ready-dev
	$(PIP_INSTALL) --group engines
	@touch $@
