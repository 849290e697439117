"""The formats that checkpoints are read from: one file each."""

from keras_bert_layers.checkpoints.bert_config import CONFIG_FILES
from keras_bert_layers.checkpoints.formats.checkpoint_format import CheckpointFormat
from keras_bert_layers.checkpoints.formats.google_format import GoogleFormat
from keras_bert_layers.checkpoints.formats.h5_format import H5Format
from keras_bert_layers.checkpoints.formats.pytorch_format import PyTorchFormat
from keras_bert_layers.checkpoints.formats.safetensors_format import SafetensorsFormat
from keras_bert_layers.checkpoints.formats.transformers_model_format import TransformersModelFormat
from keras_bert_layers.checkpoints.source import WantedFiles

# Where a directory holds several, the first is read.
FORMATS: tuple[CheckpointFormat, ...] = (
    SafetensorsFormat(),
    PyTorchFormat(),
    H5Format(),
    GoogleFormat(),
    TransformersModelFormat(),
)

CHECKPOINT_FILES = WantedFiles(
    required=(CONFIG_FILES, tuple(name for each in FORMATS for name in each.files)),
    parts={name: each.parts for each in FORMATS for name in each.files},
)
