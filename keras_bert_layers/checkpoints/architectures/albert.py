"""ALBERT (Lan et al. 2020): BERT with narrow embeddings, whose layers share their weights in groups."""

from keras_bert_layers.checkpoints.architectures.architecture import Architecture

ALBERT = Architecture(
    model_types={"albert": "AlbertModel"},
    prefix="albert",
    # The number is that of the group, in which there is one layer.
    modules={
        "embeddings.word_embeddings": "embeddings/word_embeddings",
        "embeddings.position_embeddings": "embeddings/position_embeddings",
        "embeddings.token_type_embeddings": "embeddings/token_type_embeddings",
        "embeddings.LayerNorm": "embeddings/layer_norm",
        "encoder.embedding_hidden_mapping_in": "embeddings/projection",
        "encoder.albert_layer_groups.{}.albert_layers.0.attention.query": "layer_{}/attention/query",
        "encoder.albert_layer_groups.{}.albert_layers.0.attention.key": "layer_{}/attention/key",
        "encoder.albert_layer_groups.{}.albert_layers.0.attention.value": "layer_{}/attention/value",
        "encoder.albert_layer_groups.{}.albert_layers.0.attention.dense": "layer_{}/attention/output",
        "encoder.albert_layer_groups.{}.albert_layers.0.attention.LayerNorm": "layer_{}/attention/layer_norm",
        "encoder.albert_layer_groups.{}.albert_layers.0.ffn": "layer_{}/feed_forward/intermediate",
        "encoder.albert_layer_groups.{}.albert_layers.0.ffn_output": "layer_{}/feed_forward/output",
        "encoder.albert_layer_groups.{}.albert_layers.0.full_layer_layer_norm": "layer_{}/feed_forward/layer_norm",
        "pooler": "pooler",
    },
    defaults={
        "embedding_size": 128,
        "num_hidden_groups": 1,
        "hidden_act": "gelu_new",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
    always_projects=True,
)
