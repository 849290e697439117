"""BERT-base with random weights, ours and others', each as a function of ids and mask that gives all 12 layers."""

import os
import tempfile

import keras
import numpy as np
import tensorflow as tf
import transformers

import keras_bert_layers as kbl

SHAPE = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
}


IDS_AND_MASK = [tf.TensorSpec([None, None], tf.int32)] * 2


def ids_and_mask(lengths, seed=0):
    """Returns random ids and the mask of texts of these lengths, int32 NumPy arrays padded to the longest."""
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype("int32")
    return np.random.default_rng(seed).integers(1000, 30000, mask.shape).astype("int32") * mask, mask


def _ours():
    encoder = kbl.BertEncoder(kbl.BertConfig(**SHAPE), pooler=False)

    @tf.function(input_signature=IDS_AND_MASK)
    def run(ids, mask):
        return encoder({"input_word_ids": ids, "input_mask": mask})["encoder_outputs"]

    return run, (tf.constant, lambda outputs: outputs[-1].numpy())


def _tfbertmodel():
    model = transformers.TFBertModel(transformers.BertConfig(**SHAPE), add_pooling_layer=False)

    @tf.function(input_signature=IDS_AND_MASK)
    def run(ids, mask):
        return model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[1:]

    return run, (tf.constant, lambda outputs: outputs[-1].numpy())


def _keras_hub():
    import keras_hub

    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=SHAPE["vocab_size"],
        num_layers=12,
        num_heads=12,
        hidden_dim=768,
        intermediate_dim=3072,
        max_sequence_length=512,
    )
    outputs = [backbone.get_layer(f"transformer_layer_{number}").output for number in range(12)]
    model = keras.Model(backbone.inputs, outputs)

    @tf.function(input_signature=IDS_AND_MASK)
    def run(ids, mask):
        return model({"token_ids": ids, "padding_mask": mask, "segment_ids": tf.zeros_like(ids)}, training=False)

    return run, (tf.constant, lambda outputs: outputs[-1].numpy())


def _pytorch_model():
    import torch

    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)
    config = transformers.BertConfig(**SHAPE, attn_implementation="sdpa")
    return transformers.BertModel(config, add_pooling_layer=False).eval()


def _pytorch():
    import torch

    model = _pytorch_model()

    def run(ids, mask):
        with torch.inference_mode():
            return model(ids, attention_mask=mask, output_hidden_states=True).hidden_states[1:]

    return run, (lambda array: torch.tensor(array, dtype=torch.long), lambda outputs: outputs[-1].numpy())


def _onnx_runtime():
    import onnxruntime
    import torch

    model = _pytorch_model()

    class AllLayers(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = model

        def forward(self, ids, mask):
            return self.bert(ids, attention_mask=mask, output_hidden_states=True).hidden_states[1:]

    ones = torch.ones((2, 16), dtype=torch.long)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bert.onnx")
        axes = {name: {0: "batch", 1: "sequence"} for name in ("ids", "mask")}
        torch.onnx.export(AllLayers(), (ones, ones), path, input_names=["ids", "mask"], dynamic_axes=axes, dynamo=False)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(ids, mask):
        return session.run(None, {"ids": ids, "mask": mask})

    return run, (lambda array: array.astype("int64"), lambda outputs: outputs[-1])


MAKERS = {
    "ours": _ours,
    "TFBertModel": _tfbertmodel,
    "KerasHub": _keras_hub,
    "PyTorch": _pytorch,
    "ONNX Runtime": _onnx_runtime,
}


class Peer:
    """One of `MAKERS`, ready to run.

    Args:
        name: its name there.
    """

    def __init__(self, name):
        self._run, (self._convert, self._array) = MAKERS[name]()

    def on(self, lengths):
        """Returns a function that runs it on texts of these lengths; the input is converted now."""
        ids, mask = (self._convert(array) for array in ids_and_mask(lengths))
        return lambda: self._run(ids, mask)
