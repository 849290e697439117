"""What a TF Hub preprocessor refuses; that its ids are its own is in the tests of `TFHubEncoder`."""

import numpy as np
import pytest

import keras_bert_layers as kbl
from tests.tfhub_factory import make_tfhub_preprocessor


def test_texts_are_checked_as_by_ours(tmp_path, vocabulary):
    pandas = pytest.importorskip("pandas")
    preprocessor = kbl.TFHubPreprocessor(make_tfhub_preprocessor(tmp_path / "hub", vocabulary), sequence_length=6)
    expected = preprocessor(["a film", "why"])["input_word_ids"]
    np.testing.assert_array_equal(preprocessor(pandas.Series(["a film", "why"]))["input_word_ids"], expected)
    for missing in (None, float("nan"), pandas.NA):
        with pytest.raises(TypeError, match=r"TFHubPreprocessor expects texts.*inputs\[1\]=.*, a missing value"):
            preprocessor(["a", missing])
    with pytest.raises(ValueError, match=r"TFHubPreprocessor expects texts as a list of str. Received: the list inp"):
        preprocessor([["a", "film"]])
    with pytest.raises(ValueError, match=r"at least 7 for 3 segments.*sequence_length=6"):
        preprocessor(("a", "b", "c"))
