import os
import pathlib

import pytest

from keras_bert_layers.local_path import local_path


@pytest.mark.parametrize("path", ["a/b", "/a/b", ".", "~/a", "a:b", "a b/ä", "C:/a", "a/b://c", "\udc80"])
def test_a_path_comes_back_as_a_path(path):
    assert local_path(path, "directory") == local_path(pathlib.Path(path), "directory") == pathlib.Path(path)


@pytest.mark.parametrize(
    "url",
    [
        "gs://bucket/1",
        "s3://bucket/1",
        "hdfs://host:9000/1",
        "file:///tmp/1",
        "https://example.com/1",
        "dbfs:/models/1",
        "S3A://bucket/1",
        "abfss://container@account/1",
        "zip://inner::s3://bucket/1",
    ],
)
def test_a_url_is_refused_as_text_and_as_a_path(url):
    for path in (url, pathlib.PurePosixPath(url)):
        with pytest.raises(
            ValueError, match=r"Expected `target` to be a path on this machine. Received: target='"
        ) as e:
            local_path(path, "target", "A table is another way.")
        assert os.fspath(path) in str(e.value)
        assert str(e.value).endswith("give the path there. A table is another way.")


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        (None, TypeError, "Received: target=None of type NoneType"),
        (b"a/b", TypeError, "Received: target=b'a/b' of type bytes"),
        (3, TypeError, "Received: target=3 of type int"),
        ("", ValueError, "Received: target='', which is empty. The current directory is '.'"),
        ("a\0b", ValueError, "a file system can hold. Received: target='a.x00b'"),
        ("a\ud800b", ValueError, "a file system can hold. Received: target='a.ud800b'"),
    ],
)
def test_what_is_no_path_is_refused(path, error, message):
    with pytest.raises(error, match=f"Expected `target` .*{message}"):
        local_path(path, "target")
