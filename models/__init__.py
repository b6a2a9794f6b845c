"""What a recommendation is: synchronous, no Kafka, and no clock but the one passed in."""

import os

# onnxruntime from 1.29 on and the Hugging Face libraries tell their makers what runs here unless
# this is set before they are imported. Who wants that sets the variables otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
