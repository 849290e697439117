from keras_bert_layers.serving.check.export import Export


def check_xla(export: Export) -> None:
    functions = [
        function.signature.name for function in export.graph.library.function if function.attr["_XlaMustCompile"].b
    ]
    places = functions or [where for where, node in export.nodes() if node.attr["_XlaMustCompile"].b]
    if not places:
        return
    if export.card.get("target") == "cpu":
        export.error(
            places[0],
            "A function asks for XLA (jit_compile=True) in an export for CPU, and the server has XLA off: requests "
            "fail.",
            'Export with target="gpu", or make the layers without jit_compile.',
        )
    else:
        export.warning(
            places[0],
            f"{len(places)} functions ask for XLA (jit_compile=True), which the server has off unless told.",
            "Start it with --xla_gpu_compilation_enabled, or export without jit_compile and leave it to "
            "auto-clustering.",
        )
