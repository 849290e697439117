import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_layers import HuggingFaceEncoder

from .tiny_encoders import HUGGINGFACE_NAMES, SIZES, as_graph, make_ids, make_tf_model, tensors

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
if not hasattr(transformers, "TFPreTrainedModel") or transformers.__version__.startswith("5"):
    pytest.skip("transformers has no TensorFlow classes", allow_module_level=True)

CLASSES = [
    "TFBertModel",
    "TFDistilBertModel",
    "TFAlbertModel",
    "TFRobertaModel",
    "TFElectraModel",
    "TFBertForSequenceClassification",
]
LENGTHS = (6, 9, 1, 4)
MASK = np.arange(9) < np.array(LENGTHS)[:, None]
IDS = make_ids(LENGTHS, names=HUGGINGFACE_NAMES)


def sizes_of(class_name):
    sizes = {"TFAlbertModel": {"embedding_size": 8}, "TFElectraModel": {"embedding_size": 8}}
    # RoBERTa's positions begin behind the padding id.
    sizes["TFRobertaModel"] = {"type_vocab_size": 1, "pad_token_id": 1}
    return sizes.get(class_name, {})


def fit_once(encoder):
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in HUGGINGFACE_NAMES}
    states = encoder(inputs)["encoder_outputs"]
    model = keras.Model(inputs, keras.layers.Dense(1)(states[:, 0]))
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    model.fit(IDS, np.arange(4.0), batch_size=4, verbose=0)


@pytest.fixture(scope="module")
def shared():
    return make_tf_model()


@pytest.fixture(scope="module", params=CLASSES)
def tf_model(request):
    return make_tf_model(request.param, **sizes_of(request.param))


class TestOutputs:
    def test_are_exactly_the_models(self, tf_model):
        encoder = HuggingFaceEncoder(tf_model, layers="all+embeddings", return_attention_scores=False)
        assert encoder.num_layers == 3
        assert encoder.hidden_size == 16

        def run(ids):
            known = set(encoder._arguments)
            ids = {name: value for name, value in ids.items() if name in known}
            if tf_model.config.model_type == "roberta":
                del ids["token_type_ids"]
            return dict(tf_model(ids, output_hidden_states=True))

        expected = as_graph(run, HUGGINGFACE_NAMES)(IDS)
        outputs = as_graph(encoder, HUGGINGFACE_NAMES)(IDS)
        assert len(outputs["encoder_outputs"]) == len(expected["hidden_states"]) == 4
        for state, hidden_state in zip(outputs["encoder_outputs"], expected["hidden_states"], strict=True):
            np.testing.assert_array_equal(state.numpy()[MASK], hidden_state.numpy()[MASK])
            assert not state.numpy()[~MASK].any()
        assert ("pooled_output" in outputs) == ("pooler_output" in expected)
        if "pooler_output" in expected:
            np.testing.assert_array_equal(outputs["pooled_output"], expected["pooler_output"])
        np.testing.assert_array_equal(
            outputs["sequence_output"].numpy()[MASK], expected["hidden_states"][-1].numpy()[MASK]
        )

    def test_attention_scores_are_exactly_the_models(self, tf_model):
        encoder = HuggingFaceEncoder(tf_model, layers=[3, 1], return_attention_scores=True)
        names = [name for name in HUGGINGFACE_NAMES if name in encoder._arguments]
        if tf_model.config.model_type == "roberta":
            names.remove("token_type_ids")
        run = as_graph(
            lambda ids: tf_model({n: ids[n] for n in names}, output_attentions=True).attentions, HUGGINGFACE_NAMES
        )
        expected = run(IDS)
        scores = as_graph(lambda ids: encoder(ids)["attention_scores"], HUGGINGFACE_NAMES)(IDS)
        assert scores.shape == (4, 2, 2, 9, 9)
        pairs = MASK[:, :, None] & MASK[:, None, :]
        for k, layer in enumerate([3, 1]):
            ours, theirs = (value.numpy().transpose(0, 2, 3, 1) for value in (scores[:, k], expected[layer - 1]))
            np.testing.assert_array_equal(ours[pairs], theirs[pairs])
            assert not ours[~pairs].any()

    def test_all_padding_and_no_row(self, shared):
        encoder = HuggingFaceEncoder(shared, layers="all+embeddings")
        outputs = encoder(make_ids((0, 3), sequence=4))
        for state in outputs["encoder_outputs"]:
            assert not np.any(state[0])
            assert np.all(np.isfinite(state))
        outputs = as_graph(encoder)(make_ids((), sequence=4))
        assert outputs["encoder_outputs"][0].shape == (0, 4, 16)

    def test_are_cast_to_the_policys_dtype(self, shared):
        encoder = HuggingFaceEncoder(shared, combine="weighted", return_attention_scores=True, dtype="mixed_float16")
        outputs = encoder(IDS)
        for key in ("encoder_outputs", "sequence_output", "pooled_output", "attention_scores"):
            assert outputs[key].dtype == tf.float16
        # The model itself ran in float32.
        expected = HuggingFaceEncoder(shared)(IDS)["sequence_output"]
        np.testing.assert_array_equal(outputs["sequence_output"], tf.cast(expected, tf.float16))


class TestVariables:
    def test_are_the_models(self, tf_model):
        encoder = HuggingFaceEncoder(tf_model, combine="sum")
        assert {id(weight._value) for weight in encoder.weights} == {id(variable) for variable in tf_model.variables}

    def test_fit_changes_the_model(self, shared):
        tf_model = make_tf_model()
        before = {variable.name: variable.numpy() for variable in tf_model.variables}
        fit_once(HuggingFaceEncoder(tf_model, combine="weighted", pooler=False))
        changed = {v.name for v in tf_model.variables if not np.array_equal(v, before[v.name])}
        assert len(changed) > 40
        assert any("word_embeddings" in name for name in changed)

    @pytest.mark.parametrize("class_name", ["TFBertModel", "TFBertForSequenceClassification"])
    def test_what_no_output_uses_is_frozen(self, class_name, recwarn):
        tf_model = make_tf_model(class_name)
        encoder = HuggingFaceEncoder(tf_model, combine="sum", pooler=False)
        frozen = {weight._value.name.split("/", 1)[1] for weight in encoder.non_trainable_weights}
        heads = {"classifier/kernel:0", "classifier/bias:0"} if "For" in class_name else set()
        assert frozen == {"bert/pooler/dense/kernel:0", "bert/pooler/dense/bias:0"} | heads
        fit_once(encoder)
        assert not [str(w.message) for w in recwarn if "radient" in str(w.message)]
        encoder.trainable = False
        encoder.trainable = True
        assert len(encoder.non_trainable_weights) == len(frozen)

    def test_pooler_is_not_frozen_where_it_is_used(self, shared):
        encoder = HuggingFaceEncoder(shared)
        assert encoder.non_trainable_weights == []
        assert encoder.has_pooler


class TestWrongObjects:
    @pytest.mark.parametrize("wrong", [None, "google-bert/bert-base-uncased", 3, keras.layers.Dense(2), tf.Module()])
    def test_are_refused(self, wrong):
        with pytest.raises(TypeError, match=r"expects a TensorFlow model of transformers.*Received: tf_model of type"):
            HuggingFaceEncoder(wrong)

    def test_a_model_of_pytorch(self):
        class BertModel:
            """As far as it can be told from one of TensorFlow."""

            main_input_name = "input_ids"
            config = transformers.BertConfig(**SIZES)

            def parameters(self):
                return []

        with pytest.raises(TypeError, match=r"Received: tf_model of type .*BertModel.*BertEncoder\.from_pretrained"):
            HuggingFaceEncoder(BertModel())

    def test_a_model_without_hidden_states(self, shared, monkeypatch):
        monkeypatch.setattr(type(shared), "__call__", lambda self, *args, **kwargs: {"logits": tf.zeros((1, 2))})
        with pytest.raises(TypeError, match=r"returns hidden states.*whose outputs are \['logits'\]"):
            HuggingFaceEncoder(shared)


class TestFromPretrained:
    def test_of_a_directory(self, shared, tmp_path):
        shared.save_pretrained(tmp_path, safe_serialization=True)
        encoder = HuggingFaceEncoder.from_pretrained(
            tmp_path,
            layers=[1],
            combine="stack",
            pooler=False,
            dtype="mixed_bfloat16",
            trainable=False,
            return_attention_scores=True,
            name="mine",
        )
        assert type(encoder.tf_model).__name__ == "TFBertModel"
        expected = {"layers": [1], "combine": "stack", "pooler": False, "trainable": False, "name": "mine"}
        config = encoder.get_config()
        assert {key: config[key] for key in expected} == expected
        assert config["return_attention_scores"]
        assert encoder.compute_dtype == "bfloat16"
        states = HuggingFaceEncoder(shared).hidden_states(IDS, 1)[0]
        np.testing.assert_array_equal(encoder(IDS)["encoder_outputs"][:, 0], tf.cast(states, tf.bfloat16))

    def test_of_no_directory(self, tmp_path):
        message = (
            r"Expected a directory or the id of a Hugging Face repository\. Received: source='.*nothing', which is no"
        )
        with pytest.raises(FileNotFoundError, match=message):
            HuggingFaceEncoder.from_pretrained(tmp_path / "nothing")

    @pytest.mark.parametrize(
        "damaged",
        [
            {},
            {"class_name": ["TFBertModel"]},
            {"class_name": "TFBertModel"},
            {"class_name": "TFBertModel", "config": {**SIZES, "hidden_act": "os.system"}},
            {"class_name": "TFBertModel", "config": {**SIZES, "num_attention_heads": 0}},
        ],
        ids=str,
    )
    def test_a_damaged_configuration(self, damaged):
        with pytest.raises(ValueError, match="A saved HuggingFaceEncoder is expected to"):
            HuggingFaceEncoder.from_config({"tf_model": damaged})

    @pytest.mark.parametrize("argument", ["source", "cache_dir"])
    def test_a_url_is_no_path(self, argument):
        arguments = {"source": "google-bert/bert-base-uncased", argument: "gs://bucket/bert"}
        with pytest.raises(ValueError, match=f"`{argument}` to be a path on this machine.*which is a URL"):
            HuggingFaceEncoder.from_pretrained(**arguments)


class TestSaving:
    def test_every_class_round_trips(self, tf_model):
        encoder = HuggingFaceEncoder(tf_model, layers="all+embeddings")
        again = HuggingFaceEncoder.from_config(encoder.get_config())
        assert type(again.tf_model) is type(tf_model)
        assert again.tf_model is not tf_model
        again.set_weights(encoder.get_weights())
        outputs, expected = again(IDS), encoder(IDS)
        keras.tree.map_structure(np.testing.assert_array_equal, outputs, expected)

    def test_a_class_of_ones_own_is_refused(self):
        class TFMyBertModel(transformers.TFBertModel):
            pass

        tf_model = TFMyBertModel(transformers.BertConfig(**SIZES))
        tf_model.build_in_name_scope()
        encoder = HuggingFaceEncoder(tf_model)
        assert encoder(tensors(IDS))["sequence_output"].shape == (4, 9, 16)
        with pytest.raises(ValueError, match=r"TFBertModel.*Received: tf_model of class TFMyBertModel.*export_saved"):
            encoder.get_config()

    @pytest.mark.parametrize("class_name", ["TFAutoModel", "os.system", "pipeline", "TFGPT2Model"])
    def test_a_tampered_class_is_refused(self, class_name, shared):
        config = HuggingFaceEncoder(shared).get_config()
        config["tf_model"]["class_name"] = class_name
        with pytest.raises(ValueError, match=rf"Received: class_name='{class_name}'.*nothing of it was run"):
            HuggingFaceEncoder.from_config(config)


class TestOtherArchitectures:
    """Which are probed when they are wrapped, and refused by name."""

    def test_funnel_drops_tokens(self):
        config = transformers.FunnelConfig(
            vocab_size=31, block_sizes=[1, 1], d_model=16, n_head=2, d_head=8, d_inner=32, num_decoder_layers=1
        )
        with pytest.raises(ValueError, match=r"(?s)Received: tf_model of type TFFunnelModel.*Supported are enc"):
            HuggingFaceEncoder(transformers.TFFunnelModel(config))

    def test_longformer_has_no_full_attention(self):
        config = transformers.LongformerConfig(
            vocab_size=31,
            hidden_size=16,
            num_attention_heads=2,
            num_hidden_layers=2,
            intermediate_size=32,
            attention_window=4,
            max_position_embeddings=26,
            pad_token_id=1,
        )
        tf_model = transformers.TFLongformerModel(config)
        with pytest.raises(ValueError, match=r"type TFLongformerModel.*Leave them out: return_attention_scores=False"):
            HuggingFaceEncoder(tf_model, return_attention_scores=True)
        encoder = HuggingFaceEncoder(tf_model, return_attention_scores=False)
        assert encoder(IDS)["sequence_output"].shape == (4, 9, 16)
        assert encoder.max_positions == 24
