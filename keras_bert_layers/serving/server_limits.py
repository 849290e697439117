"""What TensorFlow Serving is built with."""

# A version with more does not load.
MAX_WARMUP_RECORDS = 1000
# gRPC's own limit on a message, unless a client raises it.
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
