import os
import re

from keras_bert_layers.serving.check.export import Export

_PATH = re.compile(rb"(/[\w.@+ -]+){2,}|[A-Za-z]:\\[\w.@+ \\-]+")
_FIX = "Copy the file into the export: track it with tf.saved_model.Asset, or keep its content in the graph."


def check_files(export: Export) -> None:
    for root, folders, files in os.walk(export.directory):
        for name in sorted(folders + files):
            path = os.path.join(root, name)
            if os.path.islink(path) and not _is_inside(export, path):
                export.refuse(
                    os.path.relpath(path, export.directory),
                    "It is a link to a file outside the directory, which is not there where the server runs.",
                    _FIX,
                )
    for asset in export.meta_graph.asset_file_def:
        path = os.path.join(export.directory, "assets", asset.filename)
        where = f"assets/{asset.filename}"
        if "\0" in asset.filename or not os.path.isfile(path):
            export.refuse(where, "The asset is missing, and the server cannot load the model.", _FIX)
        elif not _is_inside(export, path) and not os.path.islink(path):
            export.refuse(where, "The asset lies outside the directory.", _FIX)
    for where, tensor in export.constants():
        for value in tensor.string_val if len(tensor.string_val) == 1 else ():
            if _PATH.fullmatch(value):
                export.refuse(
                    where,
                    f"The graph names a file outside the directory, {value.decode('utf-8', 'replace')!r}, which is not "
                    "there where the server runs.",
                    _FIX,
                )


def _is_inside(export: Export, path: str) -> bool:
    root = os.path.realpath(export.directory)
    return os.path.commonpath([root, os.path.realpath(path)]) == root
