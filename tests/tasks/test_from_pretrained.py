"""`kbl.tasks.from_pretrained` against the states of transformers' TFBertModel and NumPy for all that comes behind."""

import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl

from .sentence_models import HIDDEN, Module, dense, expected_vector, random, write_sentence_model

TEXTS = ["a good film", "the plot was very dull and the actor not bright", "why?", "how good! a bad, bad book " * 9]
MEAN = Module("Pooling", {"word_embedding_dimension": HIDDEN, "pooling_mode_mean_tokens": True})
NORMALIZE = Module("Normalize")
PROMPTS = {"query": "what is: ", "document": "a book: ", "empty": ""}
OLD_MODES = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")


def pooling(modes, **settings):
    return Module("Pooling", {"embedding_dimension": HIDDEN, "pooling_mode": modes, **settings})


def old_pooling(*modes):
    return Module(
        "Pooling", {"word_embedding_dimension": HIDDEN} | {f"pooling_mode_{m}": m in modes for m in OLD_MODES}
    )


PROMPTED = [pooling(["mean", "weightedmean"], include_prompt=False)]
CHAINS = {
    "one of each old key": [old_pooling(*OLD_MODES)],
    "no old key": [Module("Pooling", {"word_embedding_dimension": HIDDEN, "pooling_mode_cls_token": False})],
    "cls": [pooling("cls", include_prompt=True), NORMALIZE],
    "max": [pooling(["max"])],
    "mean": [MEAN, NORMALIZE],
    "square root": [old_pooling("mean_sqrt_len_tokens")],
    "weighted mean": [pooling("weightedmean")],
    "last token": [pooling("lasttoken")],
    "several, in the order of the list": [pooling(["mean", "cls", "mean_sqrt_len_tokens"]), NORMALIZE],
    "dense": [MEAN, dense(HIDDEN, 8), NORMALIZE],
    "dense without bias": [MEAN, dense(HIDDEN, 8, "linear.Identity", bias=False)],
    "dense from bin": [MEAN, dense(HIDDEN, 8, "activation.ReLU")._replace(format="bin")],
    "two dense": [MEAN, dense(HIDDEN, 8, "activation.GELU"), dense(8, 4, "activation.SiLU"), NORMALIZE],
    "dense on tokens": [
        dense(HIDDEN, 8, "activation.Sigmoid", module_input_name="token_embeddings"),
        pooling("mean"),
    ],
    "layer norm": [
        MEAN,
        Module("LayerNorm", {"dimension": HIDDEN}, {"norm.weight": random(HIDDEN), "norm.bias": random(HIDDEN)}),
    ],
    "layers": [
        Module(
            "WeightedLayerPooling",
            {"word_embedding_dimension": HIDDEN, "layer_start": 1, "num_hidden_layers": 4},
            {"layer_weights": np.array([0.1, 2.0, 0.7, 1.0], "float32")},
        ),
        MEAN,
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def reference(tiny_bert_directory):
    """Texts -> for each the states of layers 0 to L, of the text alone, by transformers' tokenizer and model."""
    return huggingface_reference(tiny_bert_directory)


def huggingface_reference(directory):
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.BertTokenizerFast.from_pretrained(directory)
    model = transformers.TFBertModel.from_pretrained(directory, output_hidden_states=True)

    def states(text, max_length):
        ids = tokenizer(text, truncation=True, max_length=max_length, return_tensors="tf")
        return [state[0].numpy() for state in model(**ids).hidden_states]

    return states


def vectors(modules, reference, texts=TEXTS, max_length=128, prompt_length=0):
    return np.stack([expected_vector(modules, reference(text, max_length), prompt_length) for text in texts])


@pytest.mark.parametrize("name", CHAINS)
def test_every_module_and_key(name, tiny_bert_directory, reference, tmp_path):
    modules = CHAINS[name]
    model = kbl.tasks.from_pretrained(write_sentence_model(tmp_path / "model", tiny_bert_directory, modules))
    if name == "no old key":
        modules = [MEAN]
    assert isinstance(model, keras.Model)
    assert model.layers[-1].name == "embedding"
    np.testing.assert_allclose(model(tf.constant(TEXTS)), vectors(modules, reference), atol=1e-5)


def test_minilm(minilm_directory):
    texts = ["A man is playing a guitar.", "Ein Mädchen lächelt.", "", "a long text " * 200]
    model = kbl.tasks.from_pretrained(minilm_directory)
    expected = vectors([MEAN, NORMALIZE], huggingface_reference(minilm_directory), texts, max_length=256)
    np.testing.assert_allclose(model(tf.constant(texts)), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("files", "length"),
    [
        ({"sentence_bert_config": {"max_seq_length": 9, "do_lower_case": True}}, 9),
        ({"sentence_xlm-roberta_config": {"max_seq_length": 7}}, 7),
        ({"sentence_bert_config": {"max_seq_length": None, "unpad_inputs": False}}, 128),
        ({"tokenizer_config": {"tokenizer_class": "BertTokenizer", "model_max_length": 11}}, 11),
        ({"tokenizer_config": {"tokenizer_class": "BertTokenizer", "model_max_length": int(1e30)}}, 128),
        ({"sentence_bert_config": {"max_seq_length": 514}}, 128),
    ],
)
def test_the_length_of_texts(files, length, tiny_bert_directory, tmp_path):
    model = kbl.tasks.from_pretrained(write_sentence_model(tmp_path / "model", tiny_bert_directory, [MEAN], **files))
    (preprocessor,) = (layer for layer in model.layers if isinstance(layer, kbl.BertPreprocessor))
    assert preprocessor.sequence_length == length
    assert preprocessor(["a " * 300])["input_word_ids"].shape == (1, length)


def test_the_names_of_today_and_a_folder_of_its_own(tiny_bert_directory, reference, tmp_path):
    settings = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        "module_output_name": "token_embeddings",
        "model_kwargs": {"dtype": "float32"},
        "processing_kwargs": {},
        "query_length": None,
    }
    directory = write_sentence_model(
        tmp_path / "model",
        tiny_bert_directory,
        CHAINS["cls"],
        package="sentence_transformers.sentence_transformer.modules.any",
        path="0_Transformer",
    )
    (directory / "0_Transformer" / "sentence_bert_config.json").write_text(json.dumps(settings), "utf-8")
    model = kbl.tasks.from_pretrained(directory)
    np.testing.assert_allclose(model(tf.constant(TEXTS)), vectors(CHAINS["cls"], reference), atol=1e-5)


def test_an_encoder_alone_is_a_mean(tiny_bert_directory, reference):
    """And the arguments of `BertEncoder` reach it."""
    model = kbl.tasks.from_pretrained(tiny_bert_directory, trainable=False)
    np.testing.assert_allclose(model(tf.constant(TEXTS)), vectors([MEAN], reference), atol=1e-5)
    assert not model.trainable_weights


@pytest.fixture(scope="module")
def prompted_directory(tiny_bert_directory, tmp_path_factory):
    """The prompt of queries is the default, and no prompt is pooled."""
    settings = {"prompts": PROMPTS, "default_prompt_name": "query", "similarity_fn_name": "dot"}
    path = tmp_path_factory.mktemp("prompts") / "model"
    return write_sentence_model(path, tiny_bert_directory, PROMPTED, config_sentence_transformers=settings)


@pytest.fixture(scope="module")
def prompted_model(prompted_directory):
    return kbl.tasks.from_pretrained(prompted_directory)


@pytest.mark.parametrize("chain", [[MEAN, NORMALIZE], [MEAN], []], ids=["normalised", "not", "no modules"])
def test_fewer_dimensions(chain, tiny_bert_directory, reference, tmp_path):
    directory = tiny_bert_directory
    if chain:
        directory = write_sentence_model(tmp_path / "model", tiny_bert_directory, chain)
    model = kbl.tasks.from_pretrained(directory, truncate_dim=5)
    expected = vectors([MEAN], reference)[:, :5]
    if NORMALIZE in chain:
        expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    np.testing.assert_allclose(model(tf.constant(TEXTS)), expected, atol=1e-5)
    assert model.layers[-1].name == "embedding"
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(tf.constant(TEXTS)), model(tf.constant(TEXTS)))


class TestPrompts:
    def expected(self, reference, name):
        prompt = PROMPTS.get(name, "")
        # [CLS], and one token for each word and sign of these prompts.
        length = {"query": 4, "document": 4}.get(name, 0)
        return vectors(PROMPTED, reference, [prompt + text for text in TEXTS], prompt_length=length)

    def test_the_default_and_the_others(self, prompted_model, reference):
        np.testing.assert_allclose(prompted_model(tf.constant(TEXTS)), self.expected(reference, "query"), atol=1e-5)
        for name in ("document", "empty", None):
            other = kbl.tasks.with_prompt(prompted_model, name)
            np.testing.assert_allclose(other(tf.constant(TEXTS)), self.expected(reference, name), atol=1e-5)
            assert [id(weight) for weight in other.weights] == [id(weight) for weight in prompted_model.weights]

    def test_by_name(self, prompted_directory, reference):
        model = kbl.tasks.from_pretrained(prompted_directory, prompt_name="document")
        np.testing.assert_allclose(model(tf.constant(TEXTS)), self.expected(reference, "document"), atol=1e-5)

    def test_are_pooled_unless_the_files_say_otherwise(self, tiny_bert_directory, reference, tmp_path):
        model = kbl.tasks.from_pretrained(
            write_sentence_model(tmp_path / "model", tiny_bert_directory, [MEAN]),
            prompts={"query": "what: "},
            prompt_name="query",
        )
        expected = vectors([MEAN], reference, [f"what: {text}" for text in TEXTS])
        np.testing.assert_allclose(model(tf.constant(TEXTS)), expected, atol=1e-5)

    def test_a_keras_file(self, prompted_model, tmp_path):
        prompted_model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(loaded(tf.constant(TEXTS)), prompted_model(tf.constant(TEXTS)))
        other, original = (kbl.tasks.with_prompt(one, "document") for one in (loaded, prompted_model))
        np.testing.assert_array_equal(other(tf.constant(TEXTS)), original(tf.constant(TEXTS)))

    def test_export(self, prompted_model, tmp_path):
        query = kbl.tasks.with_prompt(prompted_model, "query")
        document = kbl.tasks.with_prompt(prompted_model, "document")
        signatures = {"embed": "embed", "embed_document": document}
        kbl.export_saved_model(prompted_model, tmp_path / "1", signatures=signatures, warmup=False, check=False)
        served = tf.saved_model.load(tmp_path / "1").signatures
        texts = tf.constant(TEXTS)
        for name, model in {"serving_default": query, "embed": query, "embed_document": document}.items():
            np.testing.assert_allclose(served[name](text=texts)["embedding"], model(texts), atol=1e-5)

    def test_what_one_learns_the_other_knows(self, prompted_directory):
        model = kbl.tasks.from_pretrained(prompted_directory)
        other = kbl.tasks.with_prompt(model, "document")
        before = other(tf.constant(TEXTS)).numpy()
        model.compile("sgd", "mse")
        model.fit(tf.constant(TEXTS), tf.zeros((len(TEXTS), 2 * HIDDEN)), verbose=0)
        assert np.all(np.any(other(tf.constant(TEXTS)).numpy() != before, axis=-1))


class TestRefused:
    """By name, and before weights are read."""

    @pytest.mark.parametrize(
        ("modules", "files", "message"),
        [
            ([Module("CNN"), MEAN], {}, r"modules among Pooling.*Received: modules=\['Transformer', 'CNN'"),
            ([NORMALIZE], {}, r"Pooling one of them.*Received: modules=\['Transformer', 'Normalize'\]"),
            ([MEAN, Module("WeightedLayerPooling")], {}, r"Received: modules=.*'WeightedLayerPooling'"),
            ([pooling("median")], {}, r"poolings among cls, max.*Received: pooling_mode=\['median'\]"),
            ([pooling("mean", extra=1)], {}, r"no keys but.*Received: extra=1"),
            ([MEAN, dense(HIDDEN, 8, use_residual=True)], {}, r"Received: use_residual=True"),
            ([MEAN, dense(HIDDEN, 8, "activation.Mish")], {}, r"Received: activation_function='torch.*Mish'"),
            ([dense(HIDDEN, 8), MEAN], {}, r"one of token_embeddings as its input.*'sentence_embedding'"),
            ([MEAN, dense(HIDDEN + 1, 8)], {}, r"weights \{'linear.weight': \(8, 32\).*Received: \{.*\(8, 33\)"),
            ([MEAN], {"config_sentence_transformers": {"model_type": "SparseEncoder"}}, r"model_type='SparseEncoder'"),
            ([MEAN], {"config_sentence_transformers": {"similarity_fn_name": "x"}}, r"similarity_fn_name='x'"),
            ([MEAN], {"config_sentence_transformers": {"default_prompt_name": "x"}}, r"prompt_name='x'"),
            ([MEAN], {"config_sentence_transformers": {"prompts": ["x"]}}, r"prompts as texts by name"),
            ([MEAN], {"adapter_config": {"peft_type": "LORA"}}, r"Received: adapter_config.json"),
            ([MEAN], {"sentence_bert_config": {"query_length": 32}}, r"Received: query_length=32"),
            ([MEAN], {"sentence_bert_config": {"model_args": {"gate": 1}}}, r"Received: model_args=\{'gate': 1\}"),
            ([MEAN], {"sentence_bert_config": {"module_output_name": "x"}}, r"Received: module_output_name='x'"),
            ([MEAN], {"sentence_bert_config": {"max_seq_length": "9"}}, r"Received: max_seq_length='9'"),
            ([MEAN], {"modules": [{"type": "custom.Module", "path": ""}]}, r"Received: type='custom.Module'"),
            ([MEAN], {"modules": [{"type": "sentence_transformers.models.Transformer", "path": "../x"}]}, r"'\.\./x'"),
            ([MEAN], {"modules": {}}, r"hold a JSON list\. Received: a dict"),
        ],
    )  # fmt: skip
    def test_files(self, modules, files, message, tiny_bert_directory, tmp_path):
        directory = write_sentence_model(tmp_path / "model", tiny_bert_directory, modules, **files)
        with pytest.raises(ValueError, match=message):
            kbl.tasks.from_pretrained(directory)

    def test_cls_beside_a_prompt_that_is_not_pooled(self, tiny_bert_directory, tmp_path):
        """The versions of sentence-transformers differ."""
        modules = [pooling("cls", include_prompt=False)]
        directory = write_sentence_model(tmp_path / "model", tiny_bert_directory, modules)
        kbl.tasks.from_pretrained(directory)
        with pytest.raises(ValueError, match=r"where one pooling is cls.*include_prompt=False"):
            kbl.tasks.from_pretrained(directory, prompts={"query": "what: "})

    @pytest.mark.parametrize("truncate_dim", [0, HIDDEN + 1, 2.0, True])
    def test_dimensions_that_there_are_not(self, truncate_dim, tiny_bert_directory):
        with pytest.raises(ValueError, match=rf"from 1 to 32.*Received: truncate_dim={truncate_dim}\."):
            kbl.tasks.from_pretrained(tiny_bert_directory, truncate_dim=truncate_dim)

    def test_no_weights(self, tiny_bert_directory, tmp_path):
        modules = [MEAN, dense(HIDDEN, 8)._replace(weights={})]
        directory = write_sentence_model(tmp_path / "model", tiny_bert_directory, modules)
        with pytest.raises(
            FileNotFoundError, match=r"model\.safetensors or pytorch_model\.bin\. Received: config\.json"
        ):
            kbl.tasks.from_pretrained(directory)

    def test_no_settings(self, tiny_bert_directory, tmp_path):
        directory = write_sentence_model(tmp_path / "model", tiny_bert_directory, [Module("Pooling")])
        with pytest.raises(FileNotFoundError, match=r"1_Pooling/config\.json"):
            kbl.tasks.from_pretrained(directory)


def test_from_a_repository(tiny_bert_directory, reference, tmp_path, monkeypatch):
    """Every file comes from one commit, and only what the modules have."""
    import huggingface_hub
    from huggingface_hub import errors

    snapshot = tmp_path / "snapshots" / ("a" * 40)
    modules = [MEAN, dense(HIDDEN, 8), NORMALIZE]
    write_sentence_model(snapshot, tiny_bert_directory, modules, path="0_Transformer")
    asked: dict[str, set] = {}

    def download(repo_id, filename, revision=None, **kwargs):
        if not (snapshot / filename).is_file():
            raise errors.EntryNotFoundError(filename)
        asked.setdefault(filename, set()).add(revision)
        return str(snapshot / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *args, **kwargs: None)
    model = kbl.tasks.from_pretrained("owner/model")
    np.testing.assert_allclose(model(tf.constant(TEXTS)), vectors(modules, reference), atol=1e-5)
    files = {str(path.relative_to(snapshot)) for path in pathlib.Path(snapshot).rglob("*") if path.is_file()}
    assert set(asked) == files
    assert all(revisions <= {None, "a" * 40} for revisions in asked.values())
    assert asked["2_Dense/model.safetensors"] == {"a" * 40}
