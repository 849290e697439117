import os
import re

import pytest

from keras_bert_layers.checkpoints.checkpoint_file import check_file


def make_nothing(path):
    pass


def make_link_to_nothing(path):
    path.symlink_to("nothing")


def make_link_loop(path):
    path.symlink_to(path.name)


def make_link_to_a_pipe(path):
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (make_nothing, FileNotFoundError, "Received: no such file. Check the path"),
        (make_link_to_nothing, FileNotFoundError, "Received: no such file. Check the path"),
        (make_link_loop, OSError, "a file that can be read. Received: Too many levels of symbolic links"),
        (os.mkdir, ValueError, "Received: a directory"),
        (os.mkfifo, ValueError, "Received: a pipe, a socket or a device"),
        (make_link_to_a_pipe, ValueError, "Received: a pipe, a socket or a device"),
        (lambda path: path.symlink_to("/dev/zero"), ValueError, "Received: a pipe, a socket or a device"),
        (lambda path: path.touch(), ValueError, "Received: an empty file"),
        (
            lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 90868376\n"),
            ValueError,
            "Received: a Git LFS pointer.*`git lfs pull`",
        ),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, make, error, message):
    path = tmp_path / "config.json"
    make(path)
    with pytest.raises(error, match=f"{re.escape(str(path))} is expected.*{message}"):
        check_file(path)


def test_other_files_and_links_to_them_pass(tmp_path):
    for content in ("version https", "{}"):
        (tmp_path / "file").write_text(content)
        check_file(tmp_path / "file")
    (tmp_path / "link").symlink_to("file")
    check_file(tmp_path / "link")


def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("{}")
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        # The superuser may read every file.
        os.seteuid(65534)
    try:
        with pytest.raises(PermissionError, match=f"{re.escape(str(path))} is expected.*`chmod u\\+r` on the file"):
            check_file(path)
    finally:
        os.seteuid(user)
    path.chmod(0o400)
    check_file(path)
