# One network, many tasks. `make` alone lists what there is.
# Needs Python 3.11 or later and make; everything else is installed into $(VENV) when first needed.

VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
ARGS ?=
BIN := $(VENV)/bin
# Bytecode is made when a module is first imported: compiling all of PyTorch ahead costs more than the demo itself.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile

MAKEFLAGS += --no-print-directory
.NOTPARALLEL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test check lint types floors docs wheel bench format clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## (.*)/\1|\2/' | awk -F'|' '{printf "  make %-8s %s\n", $$1, $$2}'
	@echo
	@echo "  VENV=$(VENV) (virtual environment)   PYTHON=$(PYTHON) (makes it)   ARGS='...' (more arguments for pytest)"

# Set-up: three stamps, each installed once and again when pyproject.toml changes.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is required; '$(PYTHON)' is not. Say which: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "Making $(VENV)"
	@$(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "Could not make $(VENV). On Debian and Ubuntu: apt install python3.11-venv" >&2; exit 2; }

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "Installing polypath and what it needs into $(VENV) (once; PyTorch is large: a few minutes)"
	@$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@echo "Installing polypath, what it needs and the test tools into $(VENV) (once; PyTorch is large: a few minutes)"
	@$(PIP) -e '.[dev,serve,onnx,track]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: $(VENV)/.installed-dev
	@echo "Installing the documentation tools into $(VENV) (once)"
	@$(PIP) -e '.[dev,docs,serve,onnx,track]'
	@touch $@

demo: $(VENV)/.installed ## install, train PaRT on the bundled digits, print the table, write report.html (under 5 minutes)
	@out=runs/demo; n=2; while [ -e "$$out" ]; do out=runs/demo-$$n; n=$$((n + 1)); done; \
		$(BIN)/polypath run part/digits --out "$$out"

test: $(VENV)/.installed-dev ## install, run all tests (POLYPATH_DATA=folder adds those on real data)
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

check: lint types floors docs test ## what CI runs: lint, types, floors, docs, tests

lint: $(VENV)/.installed-dev ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev ## mypy
	@$(BIN)/mypy

floors: $(VENV)/.installed-dev ## import-linter: the rooms import only downward
	@$(BIN)/lint-imports

docs: $(VENV)/.installed-docs ## build the documentation into site/, warnings are errors
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

wheel: $(VENV)/.installed-dev ## build the wheel and the source archive into dist/
	@$(BIN)/python -m build

bench: $(VENV)/.installed ## run every script in benchmarks/
	@set -e; for script in benchmarks/bench_*.py; do \
		[ -e "$$script" ] || { echo "benchmarks/ holds no script yet"; exit 0; }; \
		echo "== $$script"; $(BIN)/python "$$script"; done

format: $(VENV)/.installed-dev ## let ruff put the code in form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## remove what was built, never the runs
	@rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
	@find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
