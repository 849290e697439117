"""What has only private names in Keras and TensorFlow does what the package takes it for."""

import numpy as np
import tensorflow as tf

from keras_bert_layers.keras_compatibility import split_at_spaces


def test_texts_are_split_at_spaces_alone():
    texts = ["a film", "", "  new\nline \u3000 tab\there\u00a0", "né  中"]
    words, starts, ends = split_at_spaces(tf.constant(texts))
    assert [[word.decode() for word in row] for row in words.to_list()] == [
        [word for word in text.split(" ") if word] for text in texts
    ]
    rows = [texts[row].encode() for row in words.value_rowids()]
    cut = [row[start:end] for row, start, end in zip(rows, starts.numpy(), ends.numpy(), strict=True)]
    np.testing.assert_array_equal(cut, words.values.numpy())
