"""ELECTRA (Clark et al. 2020), discriminator and generator: BERT whose embeddings may be narrower than its layers."""

from keras_bert_layers.checkpoints.architectures.architecture import Architecture
from keras_bert_layers.checkpoints.architectures.bert import BERT

ELECTRA = Architecture(
    model_types={"electra": "ElectraModel"},
    prefix="electra",
    modules={
        **{theirs: ours for theirs, ours in BERT.modules.items() if ours != "pooler"},
        "embeddings_project": "embeddings/projection",
    },
    defaults={"embedding_size": 128},
)
