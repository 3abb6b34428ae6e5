# The only set-up a newcomer needs: `make demo` and `make test` create .venv and install what they use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A request that hangs is repeated soon instead of waited for.
INSTALL := $(BIN)/python -m pip install --quiet --timeout 20 --retries 10 --constraint constraints.txt
DEMO_OUT ?= runs/demo
PYTEST_ARGS ?= --numprocesses 2

.PHONY: demo test lint types pytest clean

demo: $(VENV)/installed-core
	$(BIN)/shapewright demo --out $(DEMO_OUT) --force

test: lint types pytest

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/installed-dev
	$(BIN)/mypy

# One thread a test process: the two processes already fill two cores.
pytest: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest $(PYTEST_ARGS)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed-core: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) torch --editable .
	touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) torch --editable '.[dev]'
	touch $@ $(VENV)/installed-core

clean:
	rm -rf $(VENV) runs .mypy_cache .pytest_cache .ruff_cache
