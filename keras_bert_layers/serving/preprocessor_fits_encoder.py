"""Whether a preprocessor and an encoder belong together, as far as their sizes tell."""

import re

from keras_bert_layers.encoders.encoder_contract import EncoderContract
from keras_bert_layers.encoders.huggingface_encoder import HuggingFaceEncoder
from keras_bert_layers.encoders.windowed_encoder import WindowedEncoder
from keras_bert_layers.serving.model_steps import Step
from keras_bert_layers.serving.served_model import ServedModel
from keras_bert_layers.text.bert_preprocessor import BertPreprocessor

# What all implementations call their tables.
_WORDS = r"word_embeddings?[./](embeddings|weight)"
_POSITIONS = r"position_embeddings?[./]embeddings"
_SEGMENTS = r"type_embeddings?[./]embeddings"


def check_preprocessor_fits_encoder(served: ServedModel) -> None:
    """Compares what a preprocessor makes with the tables of the encoder that takes it.

    A table with more rows than there are tokens is fine: some are filled up to a round number.

    Raises:
        ValueError: if the ids of a text can lie outside a table.
    """
    sources = {id(x): step for step in served.preprocessors for x in step.outputs}
    for step in served.dense_steps:
        operation = step.operation
        if operation is None or type(operation).__name__ == "Cast":
            # The same ids under another name.
            if id(step.inputs[0]) in sources:
                sources[id(step.outputs[0])] = sources[id(step.inputs[0])]
        elif isinstance(operation, EncoderContract):
            for source in {id(x): sources[id(x)] for x in step.inputs if id(x) in sources}.values():
                _compare(source, operation)


def _compare(source: Step, encoder: EncoderContract) -> None:
    preprocessor = source.operation
    made = f"{type(preprocessor).__name__} {preprocessor.name!r}"
    taken = f"{type(encoder).__name__} {encoder.name!r}"
    pairs = []
    if isinstance(preprocessor, BertPreprocessor):
        pairs.append(("tokens of the vocabulary", preprocessor.tokenizer.vocabulary_size, "word embeddings", _WORDS))
    if not isinstance(getattr(encoder, "encoder", encoder), HuggingFaceEncoder):
        # HuggingFaceEncoder leaves the type ids out where their table has one row.
        pairs.append(("segments", len(source.inputs), "segment embeddings", _SEGMENTS))
    if not isinstance(encoder, WindowedEncoder):
        pairs.append(("tokens in a row", preprocessor.sequence_length, "position embeddings", _POSITIONS))
    for what, count, table, pattern in pairs:
        rows = next((int(w.shape[0]) for w in encoder.weights if re.search(pattern, w.path)), None)
        if rows is not None and count > rows:
            raise ValueError(
                f"Expected a preprocessor and an encoder that belong together. Received: {made} with {count} {what}, "
                f"and {taken} with {rows} {table}: some texts would fail. Make both of one checkpoint."
            )
