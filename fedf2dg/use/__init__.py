"""Trained models in use: load one, ask it about images, hand it to another program."""

#: What a trained model can be exported to.
SAFETENSORS, TORCHSCRIPT, ONNX = FORMATS = ("safetensors", "torchscript", "onnx")
