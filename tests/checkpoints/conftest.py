import os
import pathlib
import time

import huggingface_hub.constants
import huggingface_hub.file_download
import pytest

from .hub_stub import HubStub
from .tiny_checkpoints import SIZES


@pytest.fixture
def data_directory() -> pathlib.Path:
    directory = os.environ.get("KERAS_BERT_LAYERS_DATA")
    if not directory or not os.path.isdir(directory):
        pytest.skip("KERAS_BERT_LAYERS_DATA does not name the directory of the test data")
    return pathlib.Path(directory)


@pytest.fixture
def hub():
    with HubStub() as stub:
        yield stub


@pytest.fixture
def hub_in_this_process(hub, monkeypatch, tmp_path):
    """The stub in place of Hugging Face's server, set by constants, since huggingface_hub reads variables at import."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    for module in (constants, huggingface_hub.file_download):
        # Version 1 and later have it in one place.
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    # It waits for 23 seconds in all before it gives up on a server.
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "default_cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no_token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return hub


@pytest.fixture
def tiny_tfbertmodel():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    model = transformers.TFBertModel(transformers.BertConfig(**SIZES))
    model.build_in_name_scope()
    return model
