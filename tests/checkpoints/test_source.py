import json
import os
import pathlib
import subprocess
import sys

import pytest

import keras_bert_layers
from keras_bert_layers.checkpoints.checkpoint import read_checkpoint
from keras_bert_layers.checkpoints.formats import CHECKPOINT_FILES
from keras_bert_layers.checkpoints.source import CONFIGURATION_FILES, TOKENIZER_FILES, find_checkpoint

from .tiny_checkpoints import SIZES, pytorch_tensors, write_checkpoint, write_sharded_checkpoint

REPOSITORY = "someone/tiny-bert"
TOKENIZER = {"vocab.txt": b"[PAD]\n", "tokenizer_config.json": b"{}"}
UNWANTED = {"pytorch_model-00001-of-00002.bin": b"x", "README.md": b"x", "model.fp16.safetensors": b"x"}


def files_in(directory: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def files(tmp_path):
    return files_in(write_checkpoint(tmp_path / "original", pytorch_tensors())) | TOKENIZER | UNWANTED


@pytest.fixture
def server(hub_in_this_process, files):
    hub_in_this_process.add(REPOSITORY, files)
    return hub_in_this_process


def test_a_directory_is_returned_as_it_is(tmp_path, monkeypatch):
    assert find_checkpoint(tmp_path, CHECKPOINT_FILES) == find_checkpoint(str(tmp_path), CHECKPOINT_FILES) == tmp_path
    monkeypatch.chdir(tmp_path)
    os.makedirs(REPOSITORY)
    assert find_checkpoint(REPOSITORY, CHECKPOINT_FILES) == pathlib.Path(REPOSITORY)


def test_a_repository_is_downloaded_without_what_nobody_asked_for(server, files, tmp_path):
    directory = find_checkpoint(REPOSITORY, CHECKPOINT_FILES)
    assert tmp_path / "default_cache" in directory.parents
    assert {path.name for path in directory.iterdir()} == {"config.json", "model.safetensors"}
    assert (directory / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert sorted(server.downloaded()) == ["config.json", "model.safetensors"]
    assert read_checkpoint(REPOSITORY)["pooler/kernel"].shape == (8, 8)
    assert sorted(server.downloaded()) == ["config.json", "model.safetensors"]


def test_each_part_downloads_only_its_own(server):
    assert {path.name for path in find_checkpoint(REPOSITORY, CONFIGURATION_FILES).iterdir()} == {"config.json"}
    directory = find_checkpoint(REPOSITORY, TOKENIZER_FILES)
    assert {path.name for path in directory.iterdir()} == {"config.json", *TOKENIZER}
    assert find_checkpoint(REPOSITORY, CHECKPOINT_FILES) == directory
    assert (directory / "model.safetensors").is_file()
    # What is in the cache, or known not to exist, is not asked for again: only whether the branch has moved.
    server.requests.clear()
    find_checkpoint(REPOSITORY, TOKENIZER_FILES)
    assert [path for _, path, _ in server.requests] == [f"/{REPOSITORY}/resolve/main/vocab.txt"]


def test_a_sharded_repository(hub_in_this_process, tmp_path):
    hub_in_this_process.add(REPOSITORY, files_in(write_sharded_checkpoint(tmp_path / "original", pytorch_tensors())))
    directory = find_checkpoint(REPOSITORY, CHECKPOINT_FILES)
    assert len(list(directory.glob("model-*.safetensors"))) == 3
    assert len(read_checkpoint(REPOSITORY)) == 5 + 3 * 16 + 2


def test_shards_in_a_folder_of_their_own(hub_in_this_process, tmp_path):
    files = files_in(write_sharded_checkpoint(tmp_path / "original", pytorch_tensors()))
    index = json.loads(files["model.safetensors.index.json"])
    index["weight_map"] = {name: f"parts/{file}" for name, file in index["weight_map"].items()}
    files = {f"parts/{name}" if name.startswith("model-") else name: content for name, content in files.items()}
    hub_in_this_process.add(REPOSITORY, files | {"model.safetensors.index.json": json.dumps(index).encode()})
    assert len(read_checkpoint(REPOSITORY)) == 5 + 3 * 16 + 2


def test_a_missing_shard(hub_in_this_process, tmp_path):
    files = files_in(write_sharded_checkpoint(tmp_path / "original", pytorch_tensors()))
    del files["model-00002-of-00003.safetensors"]
    hub_in_this_process.add(REPOSITORY, files)
    with pytest.raises(
        FileNotFoundError, match=r"The repository .* is expected to hold model-00002-of-00003.safetensors"
    ):
        find_checkpoint(REPOSITORY, CHECKPOINT_FILES)


def test_revision(server, files, tmp_path):
    other = files_in(write_checkpoint(tmp_path / "other", pytorch_tensors(vocab_size=31), vocab_size=31))
    commit = server.add(REPOSITORY, other, branch="v2")
    assert read_checkpoint(REPOSITORY).config.vocab_size == 30
    for revision in ("v2", commit):
        assert read_checkpoint(REPOSITORY, revision=revision).config.vocab_size == 31
        assert find_checkpoint(REPOSITORY, CHECKPOINT_FILES, revision=revision).name == commit
    with pytest.raises(
        ValueError, match=rf"commit of the repository {REPOSITORY} is expected. Received: revision='v3'"
    ):
        find_checkpoint(REPOSITORY, CHECKPOINT_FILES, revision="v3")


def test_all_files_come_from_one_commit(server, files, monkeypatch):
    """The branch moves on after the first file."""
    first = server.repositories[REPOSITORY].branches["main"]
    answer = server._response

    def answer_then_move(path, authorization):
        result = answer(path, authorization)
        if path.endswith("/config.json") and len(server.repositories[REPOSITORY].commits) == 1 and server.downloaded():
            server.add(REPOSITORY, {"config.json": b"{}", "model.safetensors": b"new"})
        return result

    monkeypatch.setattr(server, "_response", answer_then_move)
    directory = find_checkpoint(REPOSITORY, CHECKPOINT_FILES)
    assert len(server.repositories[REPOSITORY].commits) == 2
    assert directory.name == first
    assert (directory / "model.safetensors").read_bytes() == files["model.safetensors"]


def test_token(hub_in_this_process, files, monkeypatch):
    hub_in_this_process.add(REPOSITORY, files, token="secret")
    with pytest.raises(
        FileNotFoundError, match=r"no such directory or repository.*if the repository is private, set HF_T"
    ):
        find_checkpoint(REPOSITORY, CHECKPOINT_FILES)
    with pytest.raises(
        PermissionError, match=r"token that may read .*Received: someone/tiny-bert, .*answered 401. Log in"
    ):
        find_checkpoint(REPOSITORY, CHECKPOINT_FILES, token="wrong")
    find_checkpoint(REPOSITORY, CHECKPOINT_FILES, token="secret")
    authorizations = {authorization for method, _, authorization in hub_in_this_process.requests if method == "GET"}
    assert authorizations == {"Bearer secret"}


def test_cache_dir(server, tmp_path):
    directory = find_checkpoint(REPOSITORY, CHECKPOINT_FILES, cache_dir=tmp_path / "mine")
    assert tmp_path / "mine" in directory.parents
    assert not (tmp_path / "default_cache").exists()
    assert (
        find_checkpoint(REPOSITORY, CHECKPOINT_FILES, cache_dir=tmp_path / "mine", local_files_only=True) == directory
    )
    with pytest.raises(
        FileNotFoundError, match=r"no such file in .*default_cache, and `local_files_only=True` forbids"
    ):
        find_checkpoint(REPOSITORY, CHECKPOINT_FILES, local_files_only=True)


def test_local_files_only(server):
    expected = (
        r"config.json of someone/tiny-bert is expected to be in the download cache. Received: no such file in .*, and "
        r"`local_files_only=True` forbids the download. Call once without it"
    )
    with pytest.raises(FileNotFoundError, match=expected):
        find_checkpoint(REPOSITORY, CHECKPOINT_FILES, local_files_only=True)
    assert server.requests == []
    tokenizer = find_checkpoint(REPOSITORY, TOKENIZER_FILES)
    # The weights are not there yet, though the directory is.
    with pytest.raises(
        FileNotFoundError, match=r"model.safetensors of someone/tiny-bert is expected to be in the download"
    ):
        find_checkpoint(REPOSITORY, CHECKPOINT_FILES, local_files_only=True)
    directory = find_checkpoint(REPOSITORY, CHECKPOINT_FILES)
    server.stop()
    assert find_checkpoint(REPOSITORY, CHECKPOINT_FILES, local_files_only=True) == directory == tokenizer
    assert find_checkpoint(REPOSITORY, TOKENIZER_FILES, local_files_only=True) == directory
    assert read_checkpoint(REPOSITORY, local_files_only=True).has_pooler


def test_without_a_connection_the_cache_serves(server):
    directory = find_checkpoint(REPOSITORY, TOKENIZER_FILES)
    server.stop()
    # tokenizer.json does not exist in the repository, which the cache remembers.
    assert find_checkpoint(REPOSITORY, TOKENIZER_FILES) == directory
    expected = (
        rf"model.safetensors of someone/tiny-bert .*the server {server.url} cannot be reached. Connect to it, or give"
    )
    with pytest.raises(FileNotFoundError, match=expected):
        find_checkpoint(REPOSITORY, CHECKPOINT_FILES)


def test_a_failing_connection_does_not_pass_for_a_missing_optional_file(server, tmp_path):
    directory = find_checkpoint(REPOSITORY, TOKENIZER_FILES)
    (directory / "tokenizer_config.json").unlink()
    server.stop()
    with pytest.raises(FileNotFoundError, match=r"tokenizer_config.json of someone/tiny-bert .*cannot be reached"):
        find_checkpoint(REPOSITORY, TOKENIZER_FILES)


def test_a_copied_cache_without_notes_serves_offline(server):
    directory = find_checkpoint(REPOSITORY, TOKENIZER_FILES)
    for note in (directory.parent.parent / ".no_exist").rglob("*.json"):
        note.unlink()
    assert find_checkpoint(REPOSITORY, TOKENIZER_FILES, local_files_only=True) == directory


@pytest.mark.parametrize("source", [".", "./bert", "a/b/c", "/no/such/place", "~/bert", "two words", "a--b/c"])
def test_what_is_neither_a_directory_nor_a_repository_id(source, tmp_path, monkeypatch):
    if source == ".":
        source = str(tmp_path / "absent")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"no such directory or repository: seen from .* cannot be the id of a repos"
    ):
        find_checkpoint(source, CHECKPOINT_FILES)


def test_a_path_object_is_never_a_repository(server):
    with pytest.raises(FileNotFoundError, match="no such directory or repository"):
        find_checkpoint(pathlib.Path(REPOSITORY), CHECKPOINT_FILES)
    assert server.requests == []


def test_an_unknown_repository(server):
    with pytest.raises(
        FileNotFoundError, match=r"Received: source='nobody/nothing'. There is no such directory or repos"
    ):
        find_checkpoint("nobody/nothing", CHECKPOINT_FILES)


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(
        NotADirectoryError, match=r"Received: source='.*model.safetensors', which is a file. Give the dir"
    ):
        find_checkpoint(tmp_path / "model.safetensors", CHECKPOINT_FILES)


@pytest.mark.parametrize(
    ("name", "wanted", "advice"),
    [
        (
            "bert.tar.gz",
            CONFIGURATION_FILES,
            "Unpack it, and give the directory that then holds config.json or",
        ),
        ("uncased_vocab.txt", TOKENIZER_FILES, r"BertTokenizer\(path, lowercase=...\), or BertPreprocessor"),
    ],
)
def test_what_to_do_with_another_file(tmp_path, name, wanted, advice):
    (tmp_path / name).touch()
    with pytest.raises(NotADirectoryError, match=advice):
        find_checkpoint(tmp_path / name, wanted)


@pytest.mark.parametrize(
    ("files", "advice"),
    [
        (["saved_model.pb"], "It is a SavedModel. Wrap a text encoder of TensorFlow Hub in TFHubEncoder"),
    ],
)
def test_what_to_do_with_another_format(tmp_path, files, advice):
    for name in files:
        (tmp_path / name).write_text(json.dumps(SIZES))
    with pytest.raises(FileNotFoundError, match=advice):
        read_checkpoint(tmp_path)


def test_another_type():
    with pytest.raises(TypeError, match=r"Expected `source` to be a path, as a str .*Received: source=3 of type int"):
        find_checkpoint(3, CHECKPOINT_FILES)


@pytest.mark.parametrize("source", ["gs://bucket/bert", "https://huggingface.co/google-bert/bert-base-uncased"])
def test_a_url_is_no_source_and_no_cache(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.makedirs(source)
    for make in (str, pathlib.Path):
        with pytest.raises(
            ValueError, match=r"`source` to be a path on this machine. Received: source='.*which is a URL.*by its id"
        ):
            read_checkpoint(make(source))
    with pytest.raises(ValueError, match=r"Expected `cache_dir` to be a path on this machine. Received: cache_dir='"):
        read_checkpoint(REPOSITORY, cache_dir=source)


def test_arguments_of_another_type(tmp_path):
    with pytest.raises(TypeError, match=r"`revision` to be a branch.* Received: revision=5 of type int"):
        find_checkpoint(tmp_path, CHECKPOINT_FILES, revision=5)
    with pytest.raises(TypeError, match=r"`cache_dir` to be a path.* Received: cache_dir=5 of type int"):
        find_checkpoint(tmp_path, CHECKPOINT_FILES, cache_dir=5)


def test_a_directory_that_may_not_be_entered(tmp_path):
    directory = tmp_path / "closed" / "bert"
    directory.mkdir(parents=True)
    user = os.geteuid()
    directory.parent.chmod(0)
    if user == 0:
        # The superuser may enter every directory.
        os.seteuid(65534)
    try:
        with pytest.raises(PermissionError, match=r"may read is expected. Received: source='.*chmod u.rx"):
            find_checkpoint(directory, CHECKPOINT_FILES)
    finally:
        os.seteuid(user)
        directory.parent.chmod(0o700)
    assert find_checkpoint(directory, CHECKPOINT_FILES) == directory


def test_a_gated_repository(hub_in_this_process, files):
    hub_in_this_process.add(REPOSITORY, files, gated=True)
    with pytest.raises(
        PermissionError, match=r"Received: someone/tiny-bert, which is gated. Ask for access on its page"
    ):
        find_checkpoint(REPOSITORY, CHECKPOINT_FILES)


@pytest.mark.parametrize(
    ("status", "error", "message"), [(403, PermissionError, "answered 403"), (500, OSError, "500")]
)
def test_a_server_that_fails(server, status, error, message):
    server.failure = status
    with pytest.raises(error, match=f"is expected.*Received: .*{message}.*(Log in|Try again)"):
        find_checkpoint(REPOSITORY, CHECKPOINT_FILES)


def test_a_repository_without_weights(hub_in_this_process, files):
    del files["model.safetensors"]
    hub_in_this_process.add(REPOSITORY, files)
    expected = (
        r"The repository someone/tiny-bert .* is expected to hold model.safetensors or model.safetensors.index.json or "
        r"pytorch_model.bin .*Received: README.md, .*, pytorch_model-00001-of-00002.bin, .*Its weights are only in "
        r"pytorch_model-00001-of-00002.bin. Save it once more"
    )
    with pytest.raises(FileNotFoundError, match=expected):
        read_checkpoint(REPOSITORY)


def test_a_repository_that_cannot_be_listed(hub_in_this_process, files, monkeypatch):
    del files["model.safetensors"]
    hub_in_this_process.add(REPOSITORY, files)
    answer = hub_in_this_process._response
    monkeypatch.setattr(
        hub_in_this_process,
        "_response",
        lambda path, authorization: (404, {}, b"") if "/api/" in path else answer(path, authorization),
    )
    with pytest.raises(FileNotFoundError, match=r"model.safetensors.index.json or .*Received: none of them. Give"):
        find_checkpoint(REPOSITORY, CHECKPOINT_FILES)


def test_a_repository_without_vocabulary(hub_in_this_process):
    hub_in_this_process.add(REPOSITORY, {"README.md": b"x"})
    with pytest.raises(
        FileNotFoundError, match=r"expected to hold vocab.txt or tokenizer.json or .*Received: README.md. Give"
    ):
        find_checkpoint(REPOSITORY, TOKENIZER_FILES)


def test_another_model_is_refused_before_its_weights_are_downloaded(hub_in_this_process, files):
    hub_in_this_process.add(REPOSITORY, files | {"config.json": b'{"model_type": "deberta"}'})
    with pytest.raises(ValueError, match=r"model_type='deberta'"):
        read_checkpoint(REPOSITORY)
    assert hub_in_this_process.downloaded() == ["config.json"]


SCRIPT = """
import json, sys, types
# Without the package's own __init__, which takes seconds to import TensorFlow.
sys.modules["keras_bert_layers"] = package = types.ModuleType("keras_bert_layers")
package.__path__ = [sys.argv.pop(1)]
from keras_bert_layers.checkpoints.checkpoint import read_checkpoint
from keras_bert_layers.checkpoints.formats import CHECKPOINT_FILES
from keras_bert_layers.checkpoints.source import find_checkpoint

results = []
for repository in sys.argv[1:]:
    try:
        results.append([str(find_checkpoint(repository, CHECKPOINT_FILES)), len(read_checkpoint(repository))])
    except OSError as error:
        results.append([type(error).__name__, str(error)])
print(json.dumps(results))
"""


def run_script(arguments, **variables):
    # transformers, which other tests import, sets TF_USE_LEGACY_KERAS.
    dropped = ("HF_", "HUGGING", "TF_USE_LEGACY_KERAS")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    environment |= {"NO_PROXY": "127.0.0.1", "PYTHONPATH": os.pathsep.join(sys.path), **variables}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, *keras_bert_layers.__path__, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_environment_variables(hub, files, tmp_path):
    """In processes of their own, since huggingface_hub reads HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE when imported."""
    hub.add(REPOSITORY, files, token="secret")
    variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "secret"}
    ((directory, weights),) = run_script([REPOSITORY], **variables)
    assert tmp_path / "home" in pathlib.Path(directory).parents
    assert weights == 5 + 3 * 16 + 2
    assert {authorization for _, _, authorization in hub.requests} == {"Bearer secret"}

    requests = len(hub.requests)
    cached, absent = run_script([REPOSITORY, "someone/else"], HF_HUB_OFFLINE="1", **variables)
    assert cached == [directory, weights]
    assert absent[0] == "FileNotFoundError"
    assert "and HF_HUB_OFFLINE=1 forbids the download. Call once without it" in absent[1]
    assert len(hub.requests) == requests
