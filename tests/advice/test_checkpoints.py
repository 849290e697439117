"""What the messages about checkpoints say is done, and helps."""

import hashlib
import json
import os
import pathlib
import shutil
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save_file

import keras_bert_layers as kbl
from keras_bert_layers.checkpoints.tfhub_saved_model import TFHubSavedModel

from ..checkpoints.conftest import hub, hub_in_this_process  # noqa: F401
from ..checkpoints.tiny_checkpoints import pytorch_tensors, write_checkpoint, write_sharded_checkpoint
from ..encoders.tiny_encoders import make_tf_model, write_tfhub_encoder
from .advice import advice, refused, warned, welcome
from .test_analysis import extras

REPOSITORY = "someone/tiny-bert"


@pytest.fixture
def directory(tmp_path) -> pathlib.Path:
    return write_checkpoint(tmp_path / "bert", pytorch_tensors())


def load(directory, **options) -> kbl.BertEncoder:
    with welcome():
        encoder = kbl.BertEncoder.from_pretrained(directory, **options)
    assert encoder.num_layers == 3
    return encoder


def refuse(directory, part="", **options) -> None:
    with refused(part):
        kbl.BertEncoder.from_pretrained(directory, **options)


def edit(path: pathlib.Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")


@advice(
    "Give the directory of one BERT checkpoint.",
    "Give the directory that holds it:",
    "Check the path",
    "Give the directory or repository of a BERT in Hugging Face's format.",
)
def test_where_the_checkpoint_is(directory, tmp_path, monkeypatch):
    refuse(directory.parent, "Give the directory of one BERT")
    refuse(directory / "config.json", f"Give the directory that holds it: {str(directory)!r}.")
    refuse(tmp_path / "bart", "Check the path")
    load(directory)
    (tmp_path / "moved").mkdir()
    shutil.move(directory / "model.safetensors", tmp_path / "moved")
    refuse(directory)
    shutil.move(tmp_path / "moved" / "model.safetensors", directory)
    load(directory)
    with refused():
        kbl.HuggingFaceEncoder.from_pretrained(tmp_path / "bart" / "of" / "nothing")


CONFIGURATIONS = {
    "Take the configuration file that belongs to the weights.": {"vocab_size": None},
    "Take the configuration and the weights from the same BERT checkpoint.": {"hidden_size": 10},
}


@advice(*CONFIGURATIONS)
def test_a_configuration_of_other_weights(directory):
    own = (directory / "config.json").read_text()
    for part, values in CONFIGURATIONS.items():
        content = json.loads(own) | values
        (directory / "config.json").write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
        refuse(directory, part)
    (directory / "config.json").write_text(own)
    load(directory)


@advice(
    "Take a checkpoint of one of these types",
    "HuggingFaceEncoder can wrap it, as the TensorFlow model that transformers has.",
    "HuggingFaceEncoder can wrap a TFBertModel with any other activation that transformers has.",
    "Wrap it: HuggingFaceEncoder.from_pretrained(...) runs it as transformers' TFBertModel.",
    "TFBertModel of transformers does not run it either: take another checkpoint.",
)
def test_models_for_the_other_encoder(directory):
    own = (directory / "config.json").read_text()
    for values in (
        {"model_type": "modernbert"},
        {"model_type": "deberta"},
        {"hidden_act": "quick_gelu"},
        {"position_embedding_type": "relative_key"},
        {"is_decoder": True},
    ):
        edit(directory / "config.json", **values)
        refuse(directory)
        (directory / "config.json").write_text(own)
    load(directory)
    ids = {"input_ids": np.array([[2, 7, 3]])}
    for class_name, sizes in (("TFDebertaModel", {}), ("TFBertModel", {"hidden_act": "quick_gelu"})):
        encoder = kbl.HuggingFaceEncoder(make_tf_model(class_name, **sizes))
        assert encoder(ids)["sequence_output"].shape == (1, 3, 16)
    # A decoder sees what comes before alone.
    make_tf_model(is_decoder=True).save_pretrained(directory.parent / "decoder", safe_serialization=True)
    decoder = kbl.HuggingFaceEncoder.from_pretrained(directory.parent / "decoder")
    shorter = decoder({"input_ids": np.array([[2, 7]])})["sequence_output"]
    np.testing.assert_allclose(decoder(ids)["sequence_output"][:, :2], shorter, atol=1e-5)
    # What the second message is there for: relative positions change nothing in TFBertModel.
    models = [make_tf_model(position_embedding_type=kind) for kind in ("absolute", "relative_key")]
    np.testing.assert_array_equal(*(model(ids).last_hidden_state for model in models))


@advice(
    "Save a PyTorch model with `model.save_pretrained(directory)` and give that directory; wrap a TensorFlow model "
    "of another kind in HuggingFaceEncoder."
)
def test_a_model_in_memory():
    """PyTorch is not installed here; what it writes is what `write_checkpoint` of the other tests writes."""
    model = make_tf_model("TFDebertaModel")
    refuse(model)
    kbl.HuggingFaceEncoder(model)


@advice(
    "take an earlier checkpoint, or copy or download it again.",
    "Copy or download it again.",
    "Copy or download the file again.",
    "Check the path, or copy the file there.",
    "Take the file from the checkpoint that you mean.",
    "Run `git lfs install` and `git lfs pull` in ",
    "Quantised checkpoints are not supported: take the original.",
    "Save BERT's weights into a file of their own.",
    "Save only one BERT in a checkpoint.",
)
def test_files_to_copy_again(directory, tmp_path):
    """The file as it was is what helps."""
    original = pathlib.Path(shutil.copytree(directory, tmp_path / "original"))
    weights, configuration = directory / "model.safetensors", directory / "config.json"
    tensors = load_file(weights)
    name = next(iter(tensors))

    def pointer():
        weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")

    def folder():
        weights.unlink()
        weights.mkdir()

    def dangling():
        weights.unlink()
        weights.symlink_to(tmp_path / "nothing")

    def header():
        weights.write_bytes((200_000_000).to_bytes(8, "little") + b"{" + b" " * 100)
        os.truncate(weights, 300_000_000)

    damages = [
        lambda: save_file(tensors | {name: tensors[name] * np.nan}, weights),
        lambda: weights.write_bytes(b""),
        lambda: weights.write_bytes(weights.read_bytes()[:-9]),
        lambda: configuration.write_bytes(b""),
        lambda: configuration.write_text("["),
        lambda: configuration.write_text("[]"),
        lambda: configuration.write_bytes(b"\xff\xff"),
        lambda: os.truncate(configuration, 2_000_000_000),
        lambda: save_file({key: value.astype("int8") for key, value in tensors.items()}, weights),
        lambda: save_file({**pytorch_tensors("first."), **pytorch_tensors("second.")}, weights),
        pointer,
        folder,
        dangling,
        header,
    ]
    for damage in damages:
        damage()
        refuse(directory)
        shutil.rmtree(directory)
        shutil.copytree(original, directory)
        load(directory)


@advice(
    "Copy or download these too.",
    "Copy or download the checkpoint again.",
    "Do not use this checkpoint unless you know",
)
def test_shards(tmp_path):
    directory = write_sharded_checkpoint(tmp_path / "shards", pytorch_tensors())
    index = directory / "model.safetensors.index.json"
    shutil.move(directory / "model-00002-of-00003.safetensors", tmp_path / "shard")
    refuse(directory)
    shutil.move(tmp_path / "shard", directory / "model-00002-of-00003.safetensors")
    load(directory)
    original = index.read_text()
    edit(index, weight_map=[])
    refuse(directory, "Copy or download it again.")
    edit(index, weight_map={"pooler.dense.bias": "../../other.safetensors"})
    refuse(directory)
    index.write_text(original)
    shutil.copy(directory / "model-00001-of-00003.safetensors", tmp_path / "first")
    shutil.copy(directory / "model-00002-of-00003.safetensors", directory / "model-00001-of-00003.safetensors")
    refuse(directory)
    shutil.copy(tmp_path / "first", directory / "model-00001-of-00003.safetensors")
    load(directory)


@advice("Save it without one: path.write_text(path.read_text('utf-8-sig'), 'utf-8').")
def test_a_byte_order_mark(directory):
    path = directory / "config.json"
    path.write_text(path.read_text("utf-8"), "utf-8-sig")
    refuse(directory)
    exec("path.write_text(path.read_text('utf-8-sig'), 'utf-8')", {"path": path})
    load(directory)


@advice(
    "Allow it, with `chmod u+r` on the file and `chmod u+rx` on its directories, or copy the file.",
    "Allow it, with `chmod u+rx` on the directory and those above it, or copy the directory.",
)
def test_permissions(tmp_path):
    closed = tmp_path / "closed"
    directory = write_checkpoint(closed / "bert", pytorch_tensors())
    user = os.geteuid()
    for path in (tmp_path, *tmp_path.parents):
        if not path.stat().st_mode & 0o001:
            path.chmod(0o755)
    if user == 0:
        # The superuser may read everything.
        for path in [closed, directory, *directory.iterdir()]:
            os.chown(path, 65534, 65534)
        os.seteuid(65534)
    try:
        (directory / "config.json").chmod(0)
        refuse(directory)
        (directory / "config.json").chmod(0o400)
        closed.chmod(0)
        refuse(directory)
        closed.chmod(0o500)
        load(directory)
    finally:
        os.seteuid(user)
        closed.chmod(0o700)


@advice("then `model.save_pretrained(directory, safe_serialization=True)`, and give that directory.")
def test_weights_in_another_format(tmp_path):
    transformers = pytest.importorskip("transformers")
    model = make_tf_model()
    model.save_pretrained(tmp_path / "h5", safe_serialization=False, max_shard_size="2KB")
    with refused() as message:
        kbl.BertEncoder.from_pretrained(tmp_path / "h5")
    reader = "TFAutoModel" if "TFAutoModel" in message() else "AutoModel"
    model = getattr(transformers, reader).from_pretrained(tmp_path / "h5")
    model.save_pretrained(tmp_path / "directory", safe_serialization=True)
    load(tmp_path / "directory")


@advice(
    "Ask for access on its page, then log in with `hf auth login`, set HF_TOKEN, or give `token=`.",
    "Check the spelling; if the repository is private, set HF_TOKEN or give `token=`.",
    "Look up its revisions on the repository's page.",
    "Log in with `hf auth login`, set HF_TOKEN, or give `token=`.",
    "Try again later.",
)
def test_repositories(directory, hub_in_this_process, monkeypatch):  # noqa: F811
    """`hf auth login` writes the token that HF_TOKEN gives; logging in needs a person."""
    server, files = hub_in_this_process, {path.name: path.read_bytes() for path in directory.iterdir()}
    server.add("someone/gated", files, gated=True)
    refuse("someone/gated")
    server.repositories["someone/gated"].gated = False
    load("someone/gated")
    server.add("someone/private", files, token="right")
    refuse("someone/private", "if the repository is private")
    refuse("someone/private", "Log in with", token="wrong")
    load("someone/private", token="right")
    server.add(REPOSITORY, files)
    refuse(REPOSITORY, revision="none")
    load(REPOSITORY, revision="main")
    server.failure = 500
    server.add("someone/other", files)
    refuse("someone/other")
    server.failure = None
    load("someone/other")
    monkeypatch.setenv("HF_TOKEN", "right")
    server.add("someone/private-too", files, token="right")
    load("someone/private-too")


@advice("Call once without it", "Connect to it")
def test_a_repository_without_connection(directory, hub_in_this_process):  # noqa: F811
    server, files = hub_in_this_process, {path.name: path.read_bytes() for path in directory.iterdir()}
    server.add(REPOSITORY, files)
    refuse(REPOSITORY, "Call once without it, or give the path", local_files_only=True)
    load(REPOSITORY)
    load(REPOSITORY, local_files_only=True)
    server.stop()
    refuse("someone/other", "Connect to it, or give the path of a directory.")
    load(directory)


@advice("Copy or download the SavedModel again.", "If they are weights its outputs are NaN: take another version.")
def test_files_of_a_hub_encoder(tmp_path):
    directory = write_tfhub_encoder(tmp_path / "hub", num_layers=1)
    (data,) = (directory / "variables").glob("variables.data-*")
    content = data.read_bytes()
    os.truncate(data, len(content) // 3)
    with refused():
        TFHubSavedModel(directory)
    data.write_bytes(content)
    loaded = tf.saved_model.load(directory)
    loaded.trainable_variables[0].assign(loaded.trainable_variables[0] * np.nan)
    tf.saved_model.save(loaded, tmp_path / "damaged")
    with warned():
        kbl.TFHubEncoder(tmp_path / "damaged")
    kbl.TFHubEncoder(directory)


@pytest.mark.slow
@advice(
    "If you trust the file: keras.saving.load_model(path, safe_mode=False).",
    "Save the model again where its SavedModel is.",
    "A directory or a URL is for the constructor: ",
)
def test_a_saved_hub_encoder(encoder_factory, tmp_path):
    encoder = encoder_factory("tfhub", combine="mean")
    token_ids = keras.Input((None,), dtype="int32")
    model = keras.Model(token_ids, encoder({"input_word_ids": token_ids})["encoder_outputs"])
    path = tmp_path / "model.keras"
    model.save(path)
    with refused():
        keras.saving.load_model(path)
    again = keras.saving.load_model(path, safe_mode=False)
    np.testing.assert_allclose(again(np.array([[2, 7, 3]])), model(np.array([[2, 7, 3]])), atol=1e-6)
    config = encoder.get_config()
    with refused():
        kbl.TFHubEncoder.from_config(config | {"source": str(encoder_factory.tfhub_directory)})
    assert kbl.TFHubEncoder(encoder_factory.tfhub_directory).num_layers == 3
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "damaged.keras", "w") as damaged:
        for name in archive.namelist():
            damaged.writestr(name, archive.read(name).replace(config["source"]["saved_model"].encode(), b"AAAA"))
    with refused():
        keras.saving.load_model(tmp_path / "damaged.keras", safe_mode=False)


@advice(
    "Where there is a connection, tensorflow_hub.resolve(",
    "Install it with: pip install 'keras-bert-layers[tfhub]'.",
)
def test_a_handle_without_connection(encoder_factory, monkeypatch, tmp_path):
    """Its cache is filled by hand, as a copy of one that was filled where there is a connection."""
    hub_package = pytest.importorskip("tensorflow_hub")
    handle = "http://127.0.0.1:9/encoder/1"
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    with refused():
        kbl.TFHubEncoder(handle)
    shutil.copytree(encoder_factory.tfhub_directory, tmp_path / hashlib.sha1(handle.encode()).hexdigest())
    assert kbl.TFHubEncoder(handle).num_layers == 3
    assert kbl.TFHubEncoder(hub_package.resolve(handle)).num_layers == 3
    monkeypatch.setitem(sys.modules, "tensorflow_hub", None)
    with refused():
        kbl.TFHubEncoder(handle)
    assert "tensorflow-hub" in extras()["tfhub"]
    assert kbl.TFHubEncoder(encoder_factory.tfhub_directory).num_layers == 3


@advice("Install them with: pip install 'keras-bert-layers[huggingface]' (transformers < 4.55 and tf-keras).")
def test_without_transformers(monkeypatch, directory):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with refused():
        kbl.HuggingFaceEncoder.from_pretrained(directory)
    assert "transformers>=4.48,<4.55" in extras()["huggingface"]
    assert "tf-keras" in extras()["huggingface"]
    load(directory)


@advice("Wrap a text encoder of TensorFlow Hub in TFHubEncoder", "Unpack it, and give the directory")
def test_other_forms_of_a_checkpoint(directory, encoder_factory, tmp_path):
    refuse(encoder_factory.tfhub_directory)
    assert kbl.TFHubEncoder(encoder_factory.tfhub_directory).num_layers == 3
    packed = pathlib.Path(shutil.make_archive(str(tmp_path / "bert"), "gztar", directory))
    refuse(packed)
    shutil.unpack_archive(packed, tmp_path / "unpacked")
    load(tmp_path / "unpacked")


@advice("A vocabulary alone goes to the constructor: BertTokenizer(path, lowercase=...), or BertPreprocessor likewise.")
def test_a_vocabulary_alone(vocabulary, tmp_path):
    path = tmp_path / "my_vocabulary.txt"
    path.write_text("\n".join(vocabulary) + "\n", "utf-8")
    for layer in (kbl.BertTokenizer, kbl.BertPreprocessor):
        with refused("A vocabulary alone"):
            layer.from_pretrained(path)
    assert kbl.BertTokenizer(path, lowercase=True).vocabulary == vocabulary
    assert kbl.BertPreprocessor(path, lowercase=True).tokenizer.vocabulary == vocabulary
