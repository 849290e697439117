"""Damaged tokenizer files through `BertTokenizer.from_pretrained` and `BertPreprocessor.from_pretrained`."""

import random

import pytest

import keras_bert_layers as kbl

from .directories import Directory
from .harness import Case, run_cases
from .made_files import tokenizer_files
from .mutations import mutate_file

pytestmark = pytest.mark.fuzz
NAME = "qzxv"
TEXTS = ["good films, bad é", "[SEP] abc \x00 中", ""]
# Where Hugging Face looks, from the one that it takes first.
SETS = [
    (
        "vocab.txt",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "tokenizer.json",
        "config.json",
    ),
    ("vocab.txt", "tokenizer_config.json", "config.json"),
    ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    ("vocab.txt",),
    ("tokenizer.json",),
]


@pytest.fixture(scope="module")
def directories(tmp_path_factory) -> list[Directory]:
    folder, files = tmp_path_factory.mktemp("tokenizers"), tokenizer_files()
    return [
        Directory(folder / f"{NAME}{number}", {name: files[name] for name in names})
        for number, names in enumerate(SETS)
    ]


def test_tokenizers(directories):
    def make(random: random.Random) -> Case:
        directory = random.choice(directories)
        directory.restore()
        names = [random.choice(sorted(directory.files)) for _ in range(random.choice((1, 1, 1, 2)))]
        others = [directory.path / other for other in directory.files]
        what = ", ".join(mutate_file(random, directory.dirty(name), others) for name in names)
        as_preprocessor = random.random() < 0.3

        def run() -> None:
            before = directory.listing()
            try:
                if as_preprocessor:
                    preprocessor = kbl.BertPreprocessor.from_pretrained(directory.path, sequence_length=8)
                    size = preprocessor.tokenizer.vocabulary_size
                    ids = preprocessor(TEXTS)["input_word_ids"].numpy()
                    assert ids.shape == (3, 8)
                else:
                    tokenizer = kbl.BertTokenizer.from_pretrained(directory.path)
                    size = tokenizer.vocabulary_size
                    ids = tokenizer.tokenize(TEXTS).flat_values.numpy()
            finally:
                assert directory.listing() == before, "something was written"
            assert ids.size == 0 or (ids.min() >= 0 and ids.max() < size), "ids that the vocabulary has not"

        return Case(what, run, (NAME, "tokenizer.json", "tokenizer_config.json", "vocab.txt", "sequence_length"))

    run_cases("tokenizers", 3000, make)
