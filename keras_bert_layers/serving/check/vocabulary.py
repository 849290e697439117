import re
from collections.abc import Sequence
from typing import Any

from tensorflow.core.framework import types_pb2

from keras_bert_layers.serving.card_schema import vocabulary_sha256
from keras_bert_layers.serving.check.export import EXPORT_AGAIN, Export
from keras_bert_layers.serving.export_files import CARD, SAVED_MODEL
from keras_bert_layers.serving.graph_vocabulary import graph_vocabulary
from keras_bert_layers.text.added_token_search import OTHER_PRIVATE_CHARACTER
from keras_bert_layers.text.sentence_piece_model import SentencePieceModel

# BertTokenizer puts this in place of a token that no text can have.
_UNREACHABLE = re.compile(r"\[\[\d+\]\]")
# Tables are often filled up to a multiple of this, which is faster.
_FULL_ROWS = 128


def check_vocabulary(export: Export) -> None:
    models = [tensor.tensor_content for _, tensor in export.constants() if tensor.dtype == types_pb2.DT_UINT8]
    tokens = graph_vocabulary(models) or _sentence_pieces(export)
    vocabulary = export.card.get("vocabulary")
    if tokens is None:
        if vocabulary:
            export.error(CARD, "It describes a vocabulary, and there is none in the graph.", EXPORT_AGAIN)
        return
    # As BertTokenizer keeps them: with one more at the end, and behind it what stands for tokens found in texts.
    if OTHER_PRIVATE_CHARACTER in tokens:
        tokens = tokens[: tokens.index(OTHER_PRIVATE_CHARACTER)]
    if vocabulary and not _are_those(vocabulary, tokens):
        export.error(
            CARD,
            f"The vocabulary in the graph ({len(tokens)} tokens) is not the one that the export was made with "
            f"({vocabulary['size']} tokens): texts get wrong ids, and every answer is wrong without an error.",
            "The tokens and the weights no longer belong together. Export the model again.",
        )
    rows = export.embedding_rows("word")
    if len(rows) == 1:
        _compare_with_rows(export, len(tokens), rows.pop())


def _sentence_pieces(export: Export) -> list[str] | None:
    """The pieces of the first SentencePiece model in the graph."""
    for model in export.sentence_piece_models():
        try:
            return SentencePieceModel.from_bytes(model, "the model").pieces
        except ValueError:
            return None
    return None


def _are_those(vocabulary: dict[str, Any], tokens: Sequence[str]) -> bool:
    if any(_UNREACHABLE.fullmatch(token) for token in tokens):
        return len(tokens) == vocabulary["size"]
    return vocabulary_sha256(tokens) == vocabulary["sha256"]


def _compare_with_rows(export: Export, tokens: int, rows: int) -> None:
    if tokens > rows:
        export.error(
            SAVED_MODEL,
            f"The vocabulary has {tokens} tokens, and the embedding table {rows} rows: a text with one of the last "
            f"{tokens - rows} tokens fails, and with it every request in its batch.",
            "Export with the vocabulary that the weights were trained with.",
        )
    elif rows - tokens >= _FULL_ROWS:
        export.warning(
            SAVED_MODEL,
            f"The vocabulary has {tokens} tokens, and the embedding table {rows} rows: {rows - tokens} of them no text "
            "can reach.",
            "See whether this is the vocabulary that the weights were trained with.",
        )
