import functools
import pathlib

import keras
import pytest

from .tiny_encoders import KINDS, make_encoder, write_tfhub_encoder


@pytest.fixture(scope="session")
def tfhub_directory(tmp_path_factory) -> pathlib.Path:
    """A tiny encoder with TF Hub's contract: 3 layers, hidden 16, vocabulary 31. Not to be changed."""
    return write_tfhub_encoder(tmp_path_factory.mktemp("tfhub") / "encoder")


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture
def make(kind, tfhub_directory):
    """Makes a tiny encoder of each kind: `make(layers=..., combine=...)`."""
    return functools.partial(make_encoder, kind, tfhub_directory)


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)
