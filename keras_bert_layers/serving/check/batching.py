from google.protobuf import text_format

from keras_bert_layers.serving.check.export import EXPORT_AGAIN, Export
from keras_bert_layers.serving.export_files import BATCHING
from keras_bert_layers.serving.serving_messages import serving_message

# Real files have a thousandth of it.
MAX_BYTES = 1024 * 1024


def check_batching(export: Export) -> None:
    path = export.directory / BATCHING
    if not path.exists():
        if export.card:
            export.warning(
                BATCHING,
                "There is none, and the server's own batch sizes are not those that were warmed up.",
                "Export again, or start the server without --enable_batching.",
            )
        return
    if path.stat().st_size > MAX_BYTES:
        export.error(
            BATCHING, f"It has {path.stat().st_size} bytes, and no such file has over {MAX_BYTES}.", EXPORT_AGAIN
        )
        return
    try:
        parameters = text_format.Parse(path.read_text(encoding="utf-8"), serving_message("BatchingParameters")())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        export.error(
            BATCHING,
            f"The server cannot read it ({error}) and does not start.",
            "Write a BatchingParameters message in text form.",
        )
        return
    sizes = list(parameters.allowed_batch_sizes)
    largest = parameters.max_batch_size.value
    if parameters.enable_large_batch_splitting.value and parameters.HasField("max_execution_batch_size"):
        largest = parameters.max_execution_batch_size.value
    if sizes != sorted(set(sizes)) or (sizes and largest != sizes[-1]):
        export.error(
            BATCHING,
            f"allowed_batch_sizes {sizes} must ascend and end in max_batch_size, {largest}: the server refuses to "
            "load the model.",
            "Correct the file; `export_saved_model` writes one that fits.",
        )
    if parameters.HasField("num_batch_threads") and parameters.num_batch_threads.value < 1:
        export.error(BATCHING, "num_batch_threads is below 1, and no batch runs.", "Give the number of cores.")
    allowed = export.card.get("allowed_batch_sizes", [])
    if export.card and sizes != allowed:
        export.error(
            BATCHING,
            f"allowed_batch_sizes {sizes} are not those that the export was made for, "
            f"{allowed}: the others are compiled or optimised in the middle of traffic.",
            "Make both the same.",
        )
