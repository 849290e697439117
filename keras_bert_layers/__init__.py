"""Every layer of BERT, inside a Keras model and inside one SavedModel."""

from keras_bert_layers import keras_compatibility

keras_compatibility.check_keras()

from keras_bert_layers import analysis as analysis  # noqa: E402
from keras_bert_layers import serving as serving  # noqa: E402
from keras_bert_layers import tasks as tasks  # noqa: E402
from keras_bert_layers.checkpoints.bert_config import BertConfig  # noqa: E402
from keras_bert_layers.checkpoints.save_pretrained import save_pretrained  # noqa: E402
from keras_bert_layers.encoders.bert_encoder import BertEncoder  # noqa: E402
from keras_bert_layers.encoders.huggingface_encoder import HuggingFaceEncoder  # noqa: E402
from keras_bert_layers.encoders.tfhub_encoder import TFHubEncoder  # noqa: E402
from keras_bert_layers.encoders.windowed_encoder import WindowedEncoder  # noqa: E402
from keras_bert_layers.layers.layer_combination import LayerCombination  # noqa: E402
from keras_bert_layers.layers.sequence_pooling import SequencePooling  # noqa: E402
from keras_bert_layers.layers.word_pooling import WordPooling  # noqa: E402
from keras_bert_layers.serving.export_saved_model import export_saved_model  # noqa: E402
from keras_bert_layers.text.align_labels import align_labels  # noqa: E402
from keras_bert_layers.text.bert_preprocessor import BertPreprocessor  # noqa: E402
from keras_bert_layers.text.bert_tokenizer import BertTokenizer  # noqa: E402
from keras_bert_layers.text.bucket_by_length import bucket_by_length  # noqa: E402
from keras_bert_layers.text.sentence_piece_tokenizer import SentencePieceTokenizer  # noqa: E402
from keras_bert_layers.text.tfhub_preprocessor import TFHubPreprocessor  # noqa: E402

__all__ = [
    "BertConfig",
    "BertEncoder",
    "BertPreprocessor",
    "BertTokenizer",
    "HuggingFaceEncoder",
    "LayerCombination",
    "SentencePieceTokenizer",
    "SequencePooling",
    "TFHubEncoder",
    "TFHubPreprocessor",
    "WindowedEncoder",
    "WordPooling",
    "align_labels",
    "bucket_by_length",
    "export_saved_model",
    "save_pretrained",
]
