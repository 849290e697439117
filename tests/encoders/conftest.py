import functools
import pathlib

import keras
import pytest

from .tiny_encoders import KINDS, EncoderFactory, write_tfhub_encoder


@pytest.fixture(scope="session")
def tfhub_directory(tmp_path_factory) -> pathlib.Path:
    """A tiny encoder with TF Hub's contract: 3 layers, hidden 16, vocabulary 31. Not to be changed."""
    return write_tfhub_encoder(tmp_path_factory.mktemp("tfhub") / "encoder")


@pytest.fixture(scope="session")
def encoder_factory(tfhub_directory) -> EncoderFactory:
    return EncoderFactory(tfhub_directory)


@pytest.fixture(scope="session", params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture
def make(kind, encoder_factory):
    """Makes a tiny encoder of each kind: `make(layers=..., combine=...)`."""
    yield functools.partial(encoder_factory, kind)
    encoder_factory.restore()


@pytest.fixture(scope="session")
def encoder(kind, encoder_factory):
    """One encoder of each kind with the default arguments, only to be called."""
    return encoder_factory(kind)


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)
