import re

import pytest

from keras_bert_layers.checkpoints import json_file
from keras_bert_layers.checkpoints.json_file import read_json_object, read_text


def test_text_comes_back_as_it_stands(tmp_path):
    text = "[PAD]\r\nä\u2028日本\n\n"
    (tmp_path / "vocab.txt").write_bytes(text.encode())
    assert read_text(tmp_path / "vocab.txt") == read_text(str(tmp_path / "vocab.txt")) == text


def test_an_object_comes_back(tmp_path):
    (tmp_path / "config.json").write_text('{"a": [1, null, {"b": "\\u00e4"}]}')
    assert read_json_object(tmp_path / "config.json") == {"a": [1, None, {"b": "ä"}]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Received: an empty file"),
        (b"\xef\xbb\xbf{}", "Received: a byte order mark"),
        ('{"a": 1}'.encode("utf-16"), "a text file in UTF-8. Received: bytes that are not"),
        (b'{"a": "\xe4"}', "a text file in UTF-8. Received: bytes that are not"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Received: a Git LFS pointer"),
        (b"{", "JSON file, and it could not be read as one"),
        (b'{"a": ' + b"9" * 5000 + b"}", "JSON file, and it could not be read as one"),
        (b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "JSON file, and it could not be read as one"),
        (b"[]", "a JSON object. Received: a list"),
        (b"null", "a JSON object. Received: a NoneType"),
        (b'"{}"', "a JSON object. Received: a str"),
    ],
)
def test_an_unusable_file_is_named(tmp_path, content, message):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} is expected.*{message}"):
        read_json_object(path)


def test_the_way_out_for_a_byte_order_mark(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(b"\xef\xbb\xbf{}")
    with pytest.raises(ValueError, match=r"byte order mark") as caught:
        read_json_object(path)
    exec(re.search(r"Save it without one: (path\..*)\.$", str(caught.value)).group(1))
    assert read_json_object(path) == {}


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "tokenizer.json"
    with path.open("wb") as file:
        file.write(b"{}")
        file.truncate(10**12)
    with pytest.raises(ValueError, match=r"of at most 67,108,864 bytes. Received: 1,000,000,000,000 bytes"):
        read_json_object(path)


def test_a_large_file_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(json_file, "_MAX_BYTES", 8)
    (tmp_path / "vocab.txt").write_text("12345678")
    assert read_text(tmp_path / "vocab.txt") == "12345678"
