from keras_bert_layers.serving.check.export import Export
from keras_bert_layers.serving.export_files import CARD
from keras_bert_layers.serving.saved_graph import operations


def check_card(export: Export) -> None:
    if not export.card:
        return
    fix = "The card was written for another graph. Export the model again."
    if "signatures" in export.card:
        written = {
            name: (set(signature["inputs"]), set(signature["outputs"]))
            for name, signature in export.card["signatures"].items()
        }
        found = {name: (set(signature.inputs), set(signature.outputs)) for name, signature in export.signatures.items()}
        if written != found:
            export.error(
                CARD, f"It describes the signatures {sorted(written)}, and the graph has {sorted(found)}.", fix
            )
    if "ops" in export.card and set(export.card["ops"]) != operations(export.graph):
        export.error(CARD, "Its list of operations is not that of the graph.", fix)
