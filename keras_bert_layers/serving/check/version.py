from keras_bert_layers.serving.check.export import Export


def check_version(export: Export) -> None:
    name = export.version
    if not (name.isascii() and name.isdecimal() and int(name) < 2**63):
        export.warning(
            name,
            "The name of the directory is not a number: the server does not take it for a version and ignores it.",
            "Give it a number as its name, 1 for the first version, below a directory for the model.",
        )
