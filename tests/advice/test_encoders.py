"""What the messages of encoders and layers say is done, and helps."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl
from keras_bert_layers.checkpoints.tfhub_saved_model import TFHubSavedModel

from ..encoders.tiny_encoders import make_tf_model, quantize
from .advice import advice, refused, welcome


def inputs_of_a_model(dtype="int32") -> dict[str, keras.KerasTensor]:
    names = ("input_word_ids", "input_mask", "input_type_ids")
    return {name: keras.Input((None,), dtype=dtype, name=name) for name in names}


@pytest.fixture(scope="module")
def ids(preprocessor):
    return {name: value.numpy() for name, value in preprocessor(["a good film", "why"]).items()}


@advice("A checkpoint is read by BertEncoder.from_pretrained(...).")
def test_a_path_as_configuration(minilm_directory):
    with refused():
        kbl.BertEncoder(str(minilm_directory))
    encoder = kbl.BertEncoder.from_pretrained(minilm_directory, num_hidden_layers=1)
    assert encoder.num_layers == 1


@advice("Make another encoder for another rank.")
def test_another_rank(config):
    encoder = kbl.BertEncoder(config)
    encoder.enable_lora(2)
    with refused():
        encoder.enable_lora(4)
    kbl.BertEncoder(config).enable_lora(4)


@advice("Call `encoder.enable_lora(rank)` with the rank of that file first.")
def test_weights_with_lora(config, ids, tmp_path):
    def model(encoder):
        inputs = inputs_of_a_model()
        return keras.Model(inputs, encoder(inputs)["encoder_outputs"])

    trained = model(encoder := kbl.BertEncoder(config, combine="mean"))
    quantize(trained)
    encoder.enable_lora(2)
    trained.save_weights(tmp_path / "lora.weights.h5")
    other = model(encoder := kbl.BertEncoder(config, combine="mean"))
    quantize(other)
    with refused():
        other.load_weights(tmp_path / "lora.weights.h5")
    encoder.enable_lora(2)
    other.load_weights(tmp_path / "lora.weights.h5")
    np.testing.assert_allclose(other(ids), trained(ids), atol=1e-5)


@advice("In a functional model: keras.Input((None,), dtype='int32', name='input_word_ids')".split(", name=")[0])
def test_ids_of_another_dtype(encoder, ids):
    with refused():
        encoder({"input_word_ids": ids["input_word_ids"].astype("float32")})
    token_ids = keras.Input((None,), dtype="int32", name="input_word_ids")
    model = keras.Model(token_ids, encoder({"input_word_ids": token_ids})["encoder_outputs"])
    assert model(ids["input_word_ids"]).shape == (2, 12, 16)


@advice("TimeDistributed(keras.Model(ids, vectors))")
def test_time_distributed(encoder, ids):
    documents = np.stack([ids["input_word_ids"]] * 3)
    with refused():
        keras.layers.TimeDistributed(encoder)(keras.Input((3, 12), dtype="int32"))
    token_ids = keras.Input((None,), dtype="int32")
    vectors = encoder({"input_word_ids": token_ids})["pooled_output"]
    outputs = keras.layers.TimeDistributed(keras.Model(token_ids, vectors))(documents)
    expected = encoder({"input_word_ids": ids["input_word_ids"]})["pooled_output"]
    np.testing.assert_allclose(outputs[0], expected, atol=1e-5)


@advice("Give the layers to the constructor (layers=..., combine=None) and use the call's `encoder_outputs`.")
def test_hidden_states_of_a_model(encoder, config):
    inputs = inputs_of_a_model()
    with refused():
        encoder.hidden_states(inputs, layers=[1, 2])
    assert len(kbl.BertEncoder(config, layers=[1, 2], combine=None)(inputs)["encoder_outputs"]) == 2


@advice(
    "Make shorter ones, BertPreprocessor(..., sequence_length=",
    "or read long documents in windows: WindowedEncoder(encoder, window=",
)
def test_longer_than_the_positions(encoder, vocabulary):
    documents = ["a good film " * 12]
    ids = kbl.BertPreprocessor(vocabulary, sequence_length=40)(documents)
    with refused():
        encoder(ids)
    encoder(kbl.BertPreprocessor(vocabulary, sequence_length=24)(documents))
    with welcome():
        assert kbl.WindowedEncoder(encoder, window=24, stride=6)(ids)["encoder_outputs"].shape == (1, 40, 16)


@advice("Pad the rows of all inputs to one length. For longer documents there is WindowedEncoder.")
def test_shapes_known_at_run_time(encoder, ids):
    inputs = inputs_of_a_model()
    run = tf.function(
        lambda ids: encoder(ids)["encoder_outputs"],
        input_signature=[{name: tf.TensorSpec((None, None), tf.int32) for name in inputs}],
    )
    values = {name: tf.constant(value) for name, value in ids.items()}
    with refused():
        run(values | {"input_mask": values["input_mask"][:, :-2]})
    assert run(values).shape == (2, 12, 16)


@advice(
    "Take the same BERT in Hugging Face's format: BertEncoder.from_pretrained(..., return_attention_scores=True).",
    "Select layers from 1 to ",
)
def test_attention_scores(config, encoder_factory, minilm_directory, ids):
    for make in (lambda: kbl.TFHubEncoder(encoder_factory.tfhub_directory, return_attention_scores=True),
                 lambda: kbl.BertEncoder(config, layers="all+embeddings", return_attention_scores=True)):  # fmt: skip
        with refused():
            make()
    other = kbl.BertEncoder.from_pretrained(minilm_directory, num_hidden_layers=1, return_attention_scores=True)
    assert other({"input_word_ids": np.array([[2, 7, 3]])})["attention_scores"].shape == (1, 1, 12, 3, 3)
    encoder = kbl.BertEncoder(config, layers=[1, 2], return_attention_scores=True)
    assert encoder(ids)["attention_scores"].shape == (2, 2, 2, 12, 12)


@advice(
    "Choose among layers 1 to ",
    "or take the same BERT in Hugging Face's format: BertEncoder.from_pretrained(...) has layer 0.",
)
def test_layer_zero_of_a_hub_encoder(encoder_factory, minilm_directory):
    saved_model = encoder_factory.wrapped("tfhub")
    assert isinstance(saved_model, TFHubSavedModel)
    with refused():
        kbl.TFHubEncoder(saved_model, layers=[0, 1])
    assert kbl.TFHubEncoder(saved_model, layers=[1, 3]).layers == [1, 3]
    encoder = kbl.BertEncoder.from_pretrained(minilm_directory, num_hidden_layers=1, layers=[0, 1])
    assert len(encoder({"input_word_ids": np.array([[2, 7, 3]])})["encoder_outputs"]) == 2


@advice("Give merge=None for the scores of each window, or an encoder without.")
def test_scores_of_windows(config, encoder):
    with_scores = kbl.BertEncoder(config, return_attention_scores=True)
    with refused():
        kbl.WindowedEncoder(with_scores, 24, 4)
    ids = {"input_word_ids": np.full((1, 40), 7)}
    assert "attention_scores" in kbl.WindowedEncoder(with_scores, 24, 4, merge=None)(ids)
    kbl.WindowedEncoder(encoder, 24, 4)


@advice("Add 'input_type_ids' or 'token_type_ids'."[:4])
def test_the_first_segment_in_each_window(encoder, vocabulary):
    windows = kbl.WindowedEncoder(encoder, 24, 4, repeat_first_segment=True)
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=40)
    ids = {name: value.numpy() for name, value in preprocessor((["why"], ["a good film " * 9])).items()}
    types = ids.pop("input_type_ids")
    with refused("Add 'input_type_ids' or 'token_type_ids'."):
        windows(ids)
    assert windows(ids | {"input_type_ids": types})["encoder_outputs"].shape == (1, 40, 16)


@advice(
    "BertEncoder.from_pretrained(...) reads a directory or a repository id, and PyTorch's checkpoints in safetensors."
)
def test_no_model_of_transformers(minilm_directory):
    with refused():
        kbl.HuggingFaceEncoder(str(minilm_directory))
    kbl.BertEncoder.from_pretrained(minilm_directory, num_hidden_layers=1)


def test_a_model_without_hidden_states():
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 30, "d_model": 8, "num_layers": 1, "num_heads": 1, "d_ff": 8, "d_kv": 8}
    with refused("Supported are encoders that keep every token in every layer, such as "):
        kbl.HuggingFaceEncoder(transformers.TFT5Model(transformers.T5Config(**sizes)))
    model = make_tf_model()
    kbl.HuggingFaceEncoder(model)


@advice("Export the model with keras_bert_layers.export_saved_model, or save its weights with model.save_weights(...).")
def test_a_model_that_cannot_be_saved(tmp_path):
    transformers = pytest.importorskip("transformers")

    class TFOwnModel(transformers.TFBertModel):
        pass

    wrapped = make_tf_model()
    own = TFOwnModel(wrapped.config)
    own.build_in_name_scope()
    inputs = inputs_of_a_model()
    model = keras.Model(inputs, kbl.HuggingFaceEncoder(own, combine="mean")(inputs)["encoder_outputs"])
    with refused():
        model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    kbl.export_saved_model(model, tmp_path / "export", check=False, warmup=False)
    assert (tmp_path / "export" / "saved_model.pb").exists()


@advice("Leave them out: return_attention_scores=False.")
def test_a_model_without_scores():
    """No model of transformers has hidden states and other scores; one is made."""
    model = make_tf_model()
    call = model.call

    def without(*arguments, **names):
        outputs = call(*arguments, **names)
        outputs["attentions"] = None
        return outputs

    model.call = without
    with refused():
        kbl.HuggingFaceEncoder(model, return_attention_scores=True)
    kbl.HuggingFaceEncoder(model, return_attention_scores=False)


@advice("To leave a layer out, do not select it.", "Leave them out.", "Make another LayerCombination for them.")
def test_layer_combination(config, ids):
    with refused():
        kbl.LayerCombination("weighted", initial_weights=[1.0, 0.0])
    combination = kbl.LayerCombination("weighted", initial_weights=[1.0])
    kbl.BertEncoder(config, layers=[1], combine=combination)(ids)
    with refused():
        kbl.LayerCombination("mean", layer_norm=True)
    kbl.LayerCombination("mean")
    tensors = [np.ones((1, 2, 4), "float32")] * 3
    combination = kbl.LayerCombination("weighted")
    combination(tensors[:2])
    with refused():
        combination(tensors)
    kbl.LayerCombination("weighted")(tensors)


@advice(
    "Choose another mode.",
    "Give it features['encoder_outputs'] of an encoder with `combine=`, or one tensor of the list.",
    "Pass mask=features['mask'] of the encoder.",
    "BertPreprocessor(..., return_special_tokens_mask=True) makes it.",
)
def test_sequence_pooling(encoder, config, vocabulary, ids):
    with refused():
        kbl.SequencePooling("cls", exclude_special_tokens=True)
    pooling = kbl.SequencePooling("mean", exclude_special_tokens=True)
    layers = kbl.BertEncoder(config)(ids)
    features = encoder(ids)
    with refused():
        kbl.SequencePooling("mean")(layers["encoder_outputs"], mask=layers["mask"])
    kbl.SequencePooling("mean")(layers["encoder_outputs"][-1], mask=layers["mask"])
    expected = kbl.SequencePooling("mean")(features["encoder_outputs"], mask=features["mask"])
    assert expected.shape == (2, 16)
    states = features["encoder_outputs"].numpy()
    with refused():
        kbl.SequencePooling("mean")(states)
    np.testing.assert_array_equal(kbl.SequencePooling("mean")(states, mask=features["mask"]), expected)
    with refused():
        pooling(features["encoder_outputs"], mask=features["mask"])
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=12, return_special_tokens_mask=True)
    ids = preprocessor(["a good film", "why"])
    assert pooling(states, mask=features["mask"], special_tokens_mask=ids["special_tokens_mask"]).shape == (2, 16)


@advice(
    "Give it the word ids that BertPreprocessor makes on request.",
    "Give it features['encoder_outputs'] of an encoder.",
)
def test_word_pooling(encoder, vocabulary, ids):
    features, pooling = encoder(ids), kbl.WordPooling("first")
    with refused():
        pooling(features["encoder_outputs"], features["encoder_outputs"])
    word_ids = kbl.BertPreprocessor(vocabulary, sequence_length=12, return_word_ids=True)(["a good film", "why"])[
        "word_ids"
    ]
    assert pooling(features["encoder_outputs"], word_ids)["word_outputs"].shape[0] == 2
    with refused():
        pooling([], word_ids)
