from keras_bert_layers.keras_compatibility import is_stateful
from keras_bert_layers.serving.check.export import Export
from keras_bert_layers.serving.check.graph_paths import GraphPaths
from keras_bert_layers.serving.saved_graph import function_names, nodes

# Of the operations that TensorFlow calls stateful: what touches nothing but the memory of the graph itself.
_ALLOWED = frozenset(
    """
    VarHandleOp ReadVariableOp AssignVariableOp AssignAddVariableOp AssignSubVariableOp VarIsInitializedOp VariableShape
    DestroyResourceOp DisableCopyOnRead GuaranteeConst Variable VariableV2 TemporaryVariable ResourceGather
    ResourceGatherNd ResourceStridedSliceAssign ResourceCountUpTo IsResourceHandleRefCounting
    StatefulPartitionedCall If While Case Assert CheckNumerics CheckNumericsV2 XlaLaunch
    HashTable HashTableV2 AnonymousHashTable MutableHashTable MutableHashTableV2 AnonymousMutableHashTable
    MutableHashTableOfTensors MutableHashTableOfTensorsV2 AnonymousMutableHashTableOfTensors MutableDenseHashTable
    MutableDenseHashTableV2 AnonymousMutableDenseHashTable InitializeTableV2 LookupTableFindV2 LookupTableSizeV2
    LookupTableInsertV2 LookupTableRemoveV2 LookupTableExportV2 LookupTableImportV2
    SentencepieceOp SentencepieceTokenizeOp SentencepieceTokenizeWithOffsetsOp SentencepieceDetokenizeOp
    SentencepieceIdToStringOp SentencepieceStringToIdOp SentencepieceVocabSizeOp WordpieceTokenizeWithOffsets
    TensorArray TensorArrayV2 TensorArrayV3 TensorArrayCloseV3 TensorArrayConcatV3 TensorArrayGatherV3
    TensorArrayGradV3 TensorArrayReadV3 TensorArrayScatterV3 TensorArraySizeV3 TensorArraySplitV3 TensorArrayWriteV3
    StackV2 StackPushV2 StackPopV2 StackCloseV2 Empty DeepCopy CudnnRNN CudnnRNNV2 CudnnRNNV3 CudnnRNNBackprop
    CudnnRNNBackpropV2 CudnnRNNBackpropV3 DeviceIndex IsTensorFloat32Enabled Timestamp
    Multinomial NonDeterministicInts ParameterizedTruncatedNormal RandomCrop RandomGamma RandomPoisson RandomPoissonV2
    RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt RngReadAndSkip RngSkip StatefulRandomBinomial
    StatefulStandardNormal StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform StatefulUniformFullInt
    StatefulUniformInt StatelessRandomGetAlg TruncatedNormal
    """.split()
)
_ALLOWED_BEGINNINGS = ("ResourceApply", "ResourceSparseApply", "ResourceScatter")
# And of those that it calls stateless: what reads or writes files, runs Python, or opens connections.
_REFUSED = frozenset(
    """
    MatchingFiles ImmutableConst PyFuncStateless CacheDataset SnapshotDataset SnapshotDatasetV2 SnapshotChunkDataset
    SnapshotDatasetReader SnapshotNestedDatasetReader GenerateVocabRemapping RegisterDataset RegisterDatasetV2
    DebugIdentity DebugNanCount DebugNumericSummary Copy CopyHost EncodeProto DecodeProtoV2 TfLiteSubgraphExecute
    """.split()
)
# Reads one file, and which input names it: an asset is a part of the export.
_READERS = {"ReadFile": 0, "InitializeTableFromTextFile": 1, "InitializeTableFromTextFileV2": 1}
# What the saver of every SavedModel has: who loads a model reads the variables, and nobody writes them.
_SAVES = frozenset({"Save", "SaveV2", "SaveSlices", "MergeV2Checkpoints"})
_RESTORES = frozenset({"Restore", "RestoreV2", "RestoreSlice"})


def check_side_effects(export: Export) -> None:
    """Refuses what reaches beyond the graph. Operations that this TensorFlow does not have it cannot run."""
    paths = GraphPaths(export.meta_graph)
    requested, restored = paths.reached_by_requests(), paths.reached_by_restoring()
    own = function_names(export.graph)
    refused: dict[str, list[str]] = {}
    for scope, node in nodes(export.graph):
        place = (scope, node.name)
        if node.op in own:
            is_refused = is_stateful(node.op) is not None
        elif node.op in _READERS:
            number = _READERS[node.op]
            is_refused = number >= len(node.input) or not paths.comes_from_assets(place, number)
        elif node.op in _SAVES:
            is_refused = place in requested or place in restored
        elif node.op in _RESTORES:
            is_refused = place in requested
        else:
            is_refused = node.op in _REFUSED or bool(
                is_stateful(node.op) and node.op not in _ALLOWED and not node.op.startswith(_ALLOWED_BEGINNINGS)
            )
        if is_refused:
            refused.setdefault(node.op, []).append(f"{node.name} in {scope}" if scope else node.name)
    for operation, places in refused.items():
        export.refuse(
            places[0],
            f"The operation {operation} ({len(places)} of them) may touch files outside the export, the network, other "
            "devices or the process that runs it.",
            "Leave out the layer that it comes from; a file that the model needs is tracked with tf.saved_model.Asset.",
        )
