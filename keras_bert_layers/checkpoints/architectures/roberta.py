"""RoBERTa (Liu et al. 2019), XLM-R and CamemBERT: BERT whose positions are numbered from behind the padding's id."""

from keras_bert_layers.checkpoints.architectures.architecture import Architecture
from keras_bert_layers.checkpoints.architectures.bert import BERT

ROBERTA = Architecture(
    model_types={"roberta": "RobertaModel", "xlm-roberta": "XLMRobertaModel", "camembert": "CamembertModel"},
    prefix="roberta",
    modules=BERT.modules,
    defaults={"pad_token_id": 1},
    positions_after_padding=True,
)
