"""MPNet (Song et al. 2020): BERT with a bias by relative position, the same in all layers, and without segments."""

from keras_bert_layers.checkpoints.architectures.architecture import Architecture

MPNET = Architecture(
    model_types={"mpnet": "MPNetModel"},
    prefix="mpnet",
    modules={
        "embeddings.word_embeddings": "embeddings/word_embeddings",
        "embeddings.position_embeddings": "embeddings/position_embeddings",
        "embeddings.LayerNorm": "embeddings/layer_norm",
        "encoder.relative_attention_bias": "embeddings/relative_position_embeddings",
        "encoder.layer.{}.attention.attn.q": "layer_{}/attention/query",
        "encoder.layer.{}.attention.attn.k": "layer_{}/attention/key",
        "encoder.layer.{}.attention.attn.v": "layer_{}/attention/value",
        "encoder.layer.{}.attention.attn.o": "layer_{}/attention/output",
        "encoder.layer.{}.attention.LayerNorm": "layer_{}/attention/layer_norm",
        "encoder.layer.{}.intermediate.dense": "layer_{}/feed_forward/intermediate",
        "encoder.layer.{}.output.dense": "layer_{}/feed_forward/output",
        "encoder.layer.{}.output.LayerNorm": "layer_{}/feed_forward/layer_norm",
        "pooler.dense": "pooler",
    },
    # Its implementations have the padding's id 1 written in.
    constants={"type_vocab_size": 0, "position_offset": 2},
    defaults={"pad_token_id": 1, "relative_attention_num_buckets": 32},
)
