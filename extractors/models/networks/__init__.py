"""Networks in files of other tools, ONNX and TFLite, each told of by a card."""
