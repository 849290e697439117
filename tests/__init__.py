import os

# Before TensorFlow is imported: its start-up log would drown the tests' own output.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
