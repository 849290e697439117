"""What the messages about formats of weights say is done, and helps."""

import os
import shutil

import numpy as np

import keras_bert_layers as kbl

from ..checkpoints.test_formats import TENSORS, write
from ..checkpoints.torch_writer import Tensor, save_torch
from .advice import advice, refused, welcome


def load(directory) -> None:
    with welcome():
        assert kbl.BertEncoder.from_pretrained(directory).num_layers == 3


@advice(
    "save its weights alone: model.save_pretrained(directory), which writes model.safetensors, or torch.save(model.st",
    "The file is damaged, or made to harm: copy or download it again from where you trust.",
)
def test_files_of_pytorch(tmp_path):
    directory = write(tmp_path / "bert", "bin")
    path = directory / "pytorch_model.bin"
    # As `torch.save(model, path)` writes a whole model: a call of its class.
    save_torch(path, {"model": os.path.join})
    with refused():
        kbl.BertEncoder.from_pretrained(directory)
    # torch.save(model.state_dict(), path)
    save_torch(path, TENSORS)
    load(directory)
    trusted = path.read_bytes()
    save_torch(path, TENSORS | {"bert.pooler.dense.bias": Tensor(np.ones(4, "float32"), shape=(8,))})
    with refused():
        kbl.BertEncoder.from_pretrained(directory)
    path.write_bytes(trusted)
    load(directory)


@advice(
    "Put the one that you mean into a directory of its own, with bert_config.json and vocab.txt.",
    "Copy or download them again.",
)
def test_checkpoints_of_tensorflow(tmp_path):
    directory = write(tmp_path / "bert", "google")
    copy = directory / "bert_model.ckpt-7.index"
    shutil.copy(directory / "bert_model.ckpt.index", copy)
    with refused():
        kbl.BertEncoder.from_pretrained(directory)
    own = tmp_path / "own"
    own.mkdir()
    names = ("bert_config.json", "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001")
    for name in names:
        shutil.copy(directory / name, own)
    load(own)
    (own / names[1]).write_bytes(b"damaged")
    with refused():
        kbl.BertEncoder.from_pretrained(own)
    shutil.copy(directory / names[1], own)
    load(own)
