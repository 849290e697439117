"""The families of models that `BertEncoder` runs: one table file each."""

from keras_bert_layers.checkpoints.architectures.albert import ALBERT
from keras_bert_layers.checkpoints.architectures.architecture import Architecture
from keras_bert_layers.checkpoints.architectures.bert import BERT
from keras_bert_layers.checkpoints.architectures.distilbert import DISTILBERT
from keras_bert_layers.checkpoints.architectures.electra import ELECTRA
from keras_bert_layers.checkpoints.architectures.mpnet import MPNET
from keras_bert_layers.checkpoints.architectures.roberta import ROBERTA

ARCHITECTURES: dict[str, Architecture] = {
    model_type: architecture
    for architecture in (BERT, DISTILBERT, ELECTRA, MPNET, ROBERTA, ALBERT)
    for model_type in architecture.model_types
}
