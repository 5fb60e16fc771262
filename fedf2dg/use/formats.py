"""What a trained model can be exported to."""

SAFETENSORS, TORCHSCRIPT, ONNX = FORMATS = ("safetensors", "torchscript", "onnx")
