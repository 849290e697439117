"""BERT (Devlin et al. 2019)."""

from keras_bert_layers.checkpoints.architectures.architecture import Architecture

BERT = Architecture(
    model_types={"bert": "BertModel"},
    prefix="bert",
    modules={
        "embeddings.word_embeddings": "embeddings/word_embeddings",
        "embeddings.position_embeddings": "embeddings/position_embeddings",
        "embeddings.token_type_embeddings": "embeddings/token_type_embeddings",
        "embeddings.LayerNorm": "embeddings/layer_norm",
        "encoder.layer.{}.attention.self.query": "layer_{}/attention/query",
        "encoder.layer.{}.attention.self.key": "layer_{}/attention/key",
        "encoder.layer.{}.attention.self.value": "layer_{}/attention/value",
        "encoder.layer.{}.attention.output.dense": "layer_{}/attention/output",
        "encoder.layer.{}.attention.output.LayerNorm": "layer_{}/attention/layer_norm",
        "encoder.layer.{}.intermediate.dense": "layer_{}/feed_forward/intermediate",
        "encoder.layer.{}.output.dense": "layer_{}/feed_forward/output",
        "encoder.layer.{}.output.LayerNorm": "layer_{}/feed_forward/layer_norm",
        "pooler.dense": "pooler",
    },
)
