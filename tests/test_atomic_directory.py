"""What is written beside its place and moved there: nothing is lost, whatever stands there and whatever fails."""

import multiprocessing
import os
import pathlib

import pytest

from keras_bert_layers.atomic_directory import atomic_directory

FILES = ("card", "part-*/*.bin")


def write(directory: pathlib.Path, content: str, overwrite: bool = True) -> None:
    with atomic_directory(directory, overwrite, FILES) as work:
        (work / "part-0").mkdir(parents=True)
        (work / "card").write_text(content)
        (work / "part-0" / "a.bin").write_text(content)


def content(directory: pathlib.Path) -> dict[str, str]:
    """All that is below a directory, hidden or not."""
    return {str(p.relative_to(directory)): p.read_text() for p in directory.rglob("*") if p.is_file()}


def version(text: str) -> dict[str, str]:
    return {"1/card": text, "1/part-0/a.bin": text}


def test_only_what_was_written_by_the_same_hand_is_replaced(tmp_path):
    write(tmp_path / "1", "old", overwrite=False)
    with pytest.raises(FileExistsError, match="does not exist yet. Received: directory='.*1', which does.*overwrite"):
        write(tmp_path / "1", "new", overwrite=False)
    write(tmp_path / "1", "new")
    assert content(tmp_path) == version("new")
    for name in ("thesis.txt", "part-0/a.txt"):
        (tmp_path / "1" / name).write_text("mine")
        with pytest.raises(FileExistsError, match=f"holds '{name}', which is not written here, and is kept"):
            write(tmp_path / "1", "newest")
        (tmp_path / "1" / name).unlink()
    (tmp_path / "1" / "card").unlink()
    with pytest.raises(FileExistsError, match="it has no card, and is kept"):
        write(tmp_path / "1", "newest")
    assert content(tmp_path) == {"1/part-0/a.bin": "new"}
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="which is a file, and is kept"):
        write(tmp_path / "file", "newest")
    assert content(tmp_path) == {"1/part-0/a.bin": "new", "file": "mine"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_empty_directory_is_filled(overwrite, tmp_path):
    (tmp_path / "1").mkdir()
    write(tmp_path / "1", "new", overwrite)
    assert content(tmp_path) == version("new")


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
@pytest.mark.parametrize("which", [1, 2])
def test_a_move_that_fails_keeps_the_old_version(which, error, tmp_path, monkeypatch):
    write(tmp_path / "1", "old")
    rename, calls = os.rename, []

    def fails_once(*paths):
        calls.append(paths)
        if len(calls) == which:
            raise error
        rename(*paths)

    monkeypatch.setattr(os, "rename", fails_once)
    with pytest.raises(type(error)):
        write(tmp_path / "1", "new")
    assert content(tmp_path) == version("old")


def test_where_nothing_can_be_moved_both_versions_are_kept(tmp_path, monkeypatch):
    write(tmp_path / "1", "old")
    rename, calls = os.rename, []

    def fails_from_the_second_on(*paths):
        calls.append(paths)
        if len(calls) > 1:
            raise OSError("read-only now")
        rename(*paths)

    monkeypatch.setattr(os, "rename", fails_from_the_second_on)
    with pytest.raises(OSError, match="read-only now"):
        write(tmp_path / "1", "new")
    assert sorted(content(tmp_path).values()) == ["new", "new", "old", "old"]


def test_a_link_stays_and_its_target_is_written(tmp_path):
    write(tmp_path / "real" / "1", "old")
    (tmp_path / "link").symlink_to(tmp_path / "real" / "1")
    write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "real") == version("new")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="a link to '.*nowhere', which does not exist. Remove the link"):
        write(tmp_path / "dangling", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "link", "real"]


@pytest.mark.parametrize(
    ("directory", "error", "message"),
    [
        ("file/1", NotADirectoryError, "Expected a directory that can be written. Received: directory=.*Give another"),
        ("file/1/2", NotADirectoryError, "Expected a directory that can be written"),
        ("closed/1", PermissionError, "Expected a directory that can be written. .*Permission denied"),
        ("a" * 300, OSError, "Expected a directory that can be written. .*too long"),
        ("gs://bucket/1", ValueError, "which is a URL"),
        ("a\0b", ValueError, "NUL"),
        (None, TypeError, "`directory` to be a path"),
        (b"a", TypeError, "`directory` to be a path"),
    ],
)
def test_where_nothing_can_be_written(directory, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "closed").mkdir(mode=0o500)
    if directory == "closed/1" and os.access(tmp_path / "closed", os.W_OK):
        pytest.skip("the administrator may write everywhere")
    with pytest.raises(error, match=message):
        write(directory, "new")
    assert content(tmp_path) == {"file": "mine"}


def write_often(directory: pathlib.Path, name: str) -> None:
    for number in range(100):
        write(directory, f"{name} {number}")


def test_processes_at_once_leave_one_whole_version(tmp_path):
    """Each call succeeds, whoever comes first."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write_often, args=(tmp_path / "1", name)) for name in "ab"]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        found = content_or_none(tmp_path / "1")
        assert found is None or len(set(found)) == 1
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert content(tmp_path) in (version("a 99"), version("b 99"))


def content_or_none(directory: pathlib.Path) -> list[str] | None:
    """What one version holds; None while it is moved."""
    try:
        handle = os.open(directory, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return [read(name, handle) for name in ("card", "part-0/a.bin")]
    except FileNotFoundError:
        # Deleted meanwhile.
        return None
    finally:
        os.close(handle)


def read(name: str, directory: int) -> str:
    with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=directory)) as file:
        return file.read()
