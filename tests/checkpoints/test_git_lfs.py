import pytest

from keras_bert_layers.checkpoints.git_lfs import refuse_git_lfs_pointer


def test_a_pointer_is_refused(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 90868376\n")
    with pytest.raises(ValueError, match=r"model.safetensors is expected.*Received: a Git LFS pointer.*`git lfs pull`"):
        refuse_git_lfs_pointer(file)


def test_other_files_pass(tmp_path):
    for content in ("", "version https", "{}"):
        (tmp_path / "file").write_text(content)
        refuse_git_lfs_pointer(tmp_path / "file")
