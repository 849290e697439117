"""The names of an export's files, below its directory."""

SAVED_MODEL = "saved_model.pb"
VARIABLES = "variables/variables"
CARD = "keras_bert_layers.json"
BATCHING = "batching_params.pbtxt"
WARMUP = "assets.extra/tf_serving_warmup_requests"
# The first tells an export of this package from other SavedModels.
WRITTEN = (CARD, SAVED_MODEL, "fingerprint.pb", f"{VARIABLES}.*", "assets/*", WARMUP, BATCHING)
