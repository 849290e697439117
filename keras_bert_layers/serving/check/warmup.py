import pathlib
import struct

import tensorflow as tf
from google.protobuf.message import DecodeError

from keras_bert_layers.serving.check.export import Export
from keras_bert_layers.serving.check.request_fault import request_fault
from keras_bert_layers.serving.export_files import WARMUP
from keras_bert_layers.serving.server_limits import MAX_WARMUP_RECORDS
from keras_bert_layers.serving.serving_messages import serving_api

# The length of a TFRecord's content.
_HEADER = struct.Struct("<Q")


def check_warmup(export: Export) -> None:
    path = export.directory / WARMUP
    if not path.exists():
        export.warning(
            WARMUP,
            "There is none, and the first requests wait for what the server sets up at first use.",
            "Export with `export_saved_model(..., warmup=True)`, which writes one.",
        )
        return
    try:
        prediction_log = serving_api("apis.prediction_log_pb2").PredictionLog
    except ImportError as error:
        export.warning(WARMUP, "The warm-up records were not checked.", str(error))
        return
    stops = "The server runs each record before it takes the version, and refuses the version."
    fix = "Write the warm-up file again."
    broken = f"It is broken: not a TFRecord of a PredictionLog. {stops}"
    count, is_whole = _count(path)
    if not is_whole:
        export.error(f"{WARMUP}, record {count + 1}", broken, fix)
        return
    if count > MAX_WARMUP_RECORDS:
        export.error(
            WARMUP,
            f"{count} records are more than the {MAX_WARMUP_RECORDS} that the server takes: it refuses the version.",
            "Leave some out.",
        )
        return
    covered = set()
    records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    for number in range(1, count + 1):
        where = f"{WARMUP}, record {number}"
        try:
            log = prediction_log.FromString(next(records))
        except (tf.errors.DataLossError, DecodeError):
            export.error(where, broken, fix)
            return
        if log.WhichOneof("log_type") not in ("predict_log", None):
            # Of another of the server's interfaces.
            continue
        request = log.predict_log.request
        signature = request.model_spec.signature_name or "serving_default"
        if fault := request_fault(export.signatures.get(signature), signature, request.inputs):
            export.error(where, f"{fault} {stops}", fix)
            return
        covered.add(signature)
    if export.card and (cold := sorted(set(export.signatures) - covered)):
        export.warning(
            WARMUP,
            f"No record warms up {', '.join(cold)}, whose first requests wait.",
            fix,
        )


def _count(path: pathlib.Path) -> tuple[int, bool]:
    """The whole records, and whether nothing comes after them: what a length claims, TensorFlow would allocate."""
    size, position, count = path.stat().st_size, 0, 0
    with path.open("rb") as file:
        while position < size:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return count, False
            # Two checksums, of 4 bytes each.
            position += 16 + _HEADER.unpack(header)[0]
            if position > size:
                return count, False
            file.seek(position)
            count += 1
    return count, True
