"""Exports that several files only read, or copy before they change them."""

import pathlib

import keras
import pytest

from .export_factory import make_export


@pytest.fixture(scope="session")
def sound_model(tmp_path_factory, vocabulary) -> tuple[keras.Model, pathlib.Path]:
    directory = tmp_path_factory.mktemp("sound") / "1"
    return make_export(directory, vocabulary), directory


@pytest.fixture(scope="session")
def sound(sound_model) -> pathlib.Path:
    """A small export of two outputs, with nothing wrong."""
    return sound_model[1]
