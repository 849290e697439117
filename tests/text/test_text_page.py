"""The code of docs/text.md runs as it stands, on a tiny checkpoint."""

import pathlib
import re
import textwrap

import keras
import numpy as np
import tensorflow as tf

import keras_bert_layers as kbl
from tests.checkpoints.tiny_checkpoints import pytorch_tensors, write_checkpoint

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "text.md"


def test_the_code_of_the_page(vocabulary, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = {"vocab_size": len(vocabulary), "max_position_embeddings": 512}
    source = write_checkpoint(tmp_path / "bert", pytorch_tensors(**sizes), **sizes)
    (source / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    names = {
        "keras": keras,
        "kbl": kbl,
        "tf": tf,
        "source": source,
        "encoder": kbl.BertEncoder.from_pretrained(source, combine="mean", pooler=False),
        "words": [["the", "bookish", "film"], ["why"]],
        "questions": ["why ?", "how ?"],
        "documents": ["the film was good " * 200, "a book"],
        "dataset": tf.data.Dataset.from_tensors((["a", "b"], [0, 1])),
    }
    code = [textwrap.dedent(block) for block in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)]
    tag, train, question, span, answer, bucket = code
    exec(tag, names)
    assert names["tags"].shape == (2, 128, 9)

    exec(train, names)
    ids, labels, weights = names["prepare"](names["words"], [[1, -100, 8], [2]])
    model = names["model"]
    scores = model({name: ids[name] for name in model.input})
    losses = keras.ops.sparse_categorical_crossentropy(labels, scores, from_logits=True).numpy()
    assert np.sum(weights) == 3
    # Keras's default loss would be 3 / 4 of it: four words are there, one of them has no label.
    reported = model.evaluate(ids, labels, sample_weight=weights, verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(reported, losses[weights.numpy() > 0].mean(), rtol=1e-5)

    exec(question, names)
    assert names["states"].shape == (2, 2048, 8)
    assert names["ids"]["input_mask"].numpy().sum(1).tolist() == [805, 7]
    exec(span, names)
    # "film was", and what no row has.
    _, labels = names["prepare"](names["questions"], names["documents"], tf.constant([4, 50]), tf.constant([12, 54]))
    assert [labels["start"].numpy().tolist(), labels["end"].numpy().tolist()] == [[5, 0], [6, 0]]
    exec(answer, names)
    offsets = names["preprocessor"]((names["questions"], names["documents"]))["offsets"].numpy()
    scores = names["model"]({name: names["ids"][name] for name in names["model"].input})
    for row, document in enumerate(names["documents"]):
        places = np.flatnonzero(names["ids"]["input_type_ids"][row])[:-1]  # without [SEP]
        first = places[np.argmax(scores["start"].numpy()[row, places])]
        places = places[places >= first]
        last = places[np.argmax(scores["end"].numpy()[row, places])]
        assert names["answers"][row] == document[offsets[row, first, 0] : offsets[row, last, 1]]
    exec(bucket, names)
    next(iter(names["dataset"]))
