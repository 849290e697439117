"""The families of models that `BertEncoder` runs: one table file each."""

from keras_bert_layers.checkpoints.architectures.architecture import Architecture
from keras_bert_layers.checkpoints.architectures.bert import BERT
from keras_bert_layers.checkpoints.architectures.distilbert import DISTILBERT

ARCHITECTURES: dict[str, Architecture] = {
    model_type: architecture for architecture in (BERT, DISTILBERT) for model_type in architecture.model_types
}
