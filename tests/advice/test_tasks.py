"""What the messages about whole models say is done, and helps."""

import json
import shutil

import numpy as np
import tensorflow as tf

import keras_bert_layers as kbl

from ..tasks.sentence_models import HIDDEN, Module, dense, write_sentence_model
from .advice import advice, refused, welcome

MEAN = Module("Pooling", {"word_embedding_dimension": HIDDEN, "pooling_mode_mean_tokens": True})
TEXTS = tf.constant(["a good film"])


def load(directory, **arguments):
    with welcome():
        model = kbl.tasks.from_pretrained(directory, **arguments)
        assert model(TEXTS).shape[0] == 1
    return model


def edit(path, **values) -> None:
    old = json.loads(path.read_text("utf-8")) if path.exists() else {}
    path.write_text(json.dumps(old | values), "utf-8")


@advice(
    'Where the files of a model hold none, give those that its page names: kbl.tasks.from_pretrained(..., prompts={"q',
    'Give those that the model\'s page names: kbl.tasks.from_pretrained(..., prompts={"query": "query: "})',
)
def test_prompts(tiny_bert_directory, tmp_path):
    directory = write_sentence_model(tmp_path / "model", tiny_bert_directory, [MEAN])
    with refused():
        kbl.tasks.from_pretrained(directory, prompt_name="query")
    with refused():
        kbl.tasks.with_prompt(kbl.tasks.from_pretrained(directory), "query")
    load(directory, prompt_name="query", prompts={"query": "query: "})
    kbl.tasks.with_prompt(load(directory, prompts={"query": "query: "}), "query")


@advice(
    "Run this model with sentence-transformers itself, or take another model.",
    "Take a model without code of its own.",
)
def test_modules_that_are_not_here(tiny_bert_directory, tmp_path):
    directory = write_sentence_model(tmp_path / "model", tiny_bert_directory, [Module("CNN"), MEAN])
    with refused():
        kbl.tasks.from_pretrained(directory)
    directory = write_sentence_model(tmp_path / "own", tiny_bert_directory, [MEAN], package="custom")
    with refused():
        kbl.tasks.from_pretrained(directory)
    load(write_sentence_model(tmp_path / "another", tiny_bert_directory, [MEAN]))


@advice("Take its config.json and its weights from the same model.")
def test_other_weights(tiny_bert_directory, tmp_path):
    modules = [MEAN, dense(HIDDEN, 8)]
    directory = write_sentence_model(tmp_path / "model", tiny_bert_directory, modules)
    other = write_sentence_model(tmp_path / "other", tiny_bert_directory, [MEAN, dense(HIDDEN, 4)])
    shutil.copy(other / "2_Dense" / "config.json", directory / "2_Dense")
    with refused():
        kbl.tasks.from_pretrained(directory)
    shutil.copy(other / "2_Dense" / "model.safetensors", directory / "2_Dense")
    load(directory)


@advice("Merge it with PEFT: model.merge_and_unload(), then model.save_pretrained(directory).")
def test_an_adapter(tiny_bert_directory, tmp_path):
    directory = write_sentence_model(tmp_path / "model", tiny_bert_directory, [MEAN], adapter_config={"r": 8})
    with refused():
        kbl.tasks.from_pretrained(directory)
    # What PEFT leaves behind, which is not installed here.
    (directory / "adapter_config.json").unlink()
    load(directory)


@advice("Set it to false there, and give the model texts in lower case: tf.strings.lower(texts, 'utf-8').")
def test_lower_case(tiny_bert_directory, tmp_path):
    directory = write_sentence_model(tmp_path / "model", tiny_bert_directory, [MEAN])
    edit(directory / "tokenizer_config.json", do_lower_case=False)
    edit(directory / "sentence_bert_config.json", do_lower_case=True)
    with refused():
        kbl.tasks.from_pretrained(directory)
    edit(directory / "sentence_bert_config.json", do_lower_case=False)
    texts = tf.constant(["A Good FILM"])
    np.testing.assert_array_equal(load(directory)(tf.strings.lower(texts, "utf-8")), load(directory)(TEXTS))


@advice("BertEncoder.from_pretrained(source, layers=-1, combine='last') and SequencePooling('mean').")
def test_a_model_with_a_head(tiny_bert_directory, tmp_path):
    source = shutil.copytree(tiny_bert_directory, tmp_path / "bert")
    edit(source / "config.json", architectures=["BertForSequenceClassification"])
    with refused():
        kbl.tasks.from_pretrained(source)
    with welcome():
        encoder = kbl.BertEncoder.from_pretrained(source, layers=-1, combine="last")
        preprocessor = kbl.BertPreprocessor.from_pretrained(source)
        outputs = encoder(preprocessor(TEXTS))
        vectors = kbl.SequencePooling("mean")(outputs["encoder_outputs"], mask=outputs["mask"])
    np.testing.assert_allclose(vectors, load(tiny_bert_directory)(TEXTS), atol=1e-6)
