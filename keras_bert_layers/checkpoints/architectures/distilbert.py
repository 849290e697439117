"""DistilBERT (Sanh et al. 2019): BERT without segment embeddings and pooler."""

from keras_bert_layers.checkpoints.architectures.architecture import Architecture

DISTILBERT = Architecture(
    model_types={"distilbert": "DistilBertModel"},
    prefix="distilbert",
    modules={
        "embeddings.word_embeddings": "embeddings/word_embeddings",
        "embeddings.position_embeddings": "embeddings/position_embeddings",
        "embeddings.LayerNorm": "embeddings/layer_norm",
        "transformer.layer.{}.attention.q_lin": "layer_{}/attention/query",
        "transformer.layer.{}.attention.k_lin": "layer_{}/attention/key",
        "transformer.layer.{}.attention.v_lin": "layer_{}/attention/value",
        "transformer.layer.{}.attention.out_lin": "layer_{}/attention/output",
        "transformer.layer.{}.sa_layer_norm": "layer_{}/attention/layer_norm",
        "transformer.layer.{}.ffn.lin1": "layer_{}/feed_forward/intermediate",
        "transformer.layer.{}.ffn.lin2": "layer_{}/feed_forward/output",
        "transformer.layer.{}.output_layer_norm": "layer_{}/feed_forward/layer_norm",
    },
    config_keys={
        "dim": "hidden_size",
        "n_layers": "num_hidden_layers",
        "n_heads": "num_attention_heads",
        "hidden_dim": "intermediate_size",
        "activation": "hidden_act",
        "dropout": "hidden_dropout_prob",
        "attention_dropout": "attention_probs_dropout_prob",
    },
    # Its implementations have the epsilon written in.
    constants={"type_vocab_size": 0, "layer_norm_eps": 1e-12},
)
