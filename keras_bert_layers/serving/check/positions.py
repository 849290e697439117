from keras_bert_layers.serving.check.export import Export
from keras_bert_layers.serving.export_files import CARD


def check_positions(export: Export) -> None:
    length = export.card.get("sequence_length")
    rows = export.embedding_rows("position")
    # An encoder of windows takes rows that are longer than its own.
    windows = any("Window" in encoder["class"] for encoder in export.card.get("encoders", ()))
    if length is not None and rows and length > min(rows) and not windows:
        export.error(
            CARD,
            f"Rows have up to {length} tokens, and the encoder has {min(rows)} positions: a long text fails, and "
            "with it every request in its batch.",
            f"Export with a preprocessor of sequence_length={min(rows)}, or put a WindowedEncoder round the encoder.",
        )
