"""What a trained model can be exported to, and what its card says of its use there."""

SAFETENSORS, TORCHSCRIPT, ONNX = FORMATS = ("safetensors", "torchscript", "onnx")
FILES = {SAFETENSORS: "model.safetensors", TORCHSCRIPT: "model.pt", ONNX: "model.onnx"}

_HERE = """\
```python
from fedf2dg import load_model

model = load_model("THIS_FOLDER")
for prediction in model.predict(["image.png"]):
    print(prediction.label, prediction.probability)
```

Or on the command line: `fedf2dg predict THIS_FOLDER image.png`.
"""
_ELSEWHERE = """\
`config.json` names the classes in the order of the logits. An image file becomes input in these
steps, those of training; the normalisation is inside the model.

```python
import json

import numpy as np
from PIL import Image, ImageOps

about = json.load(open("config.json", encoding="utf-8"))
height, width = about["image_size"]


def pixels(file):
    \"\"\"Return float32 (channels, height, width) in 0..1.\"\"\"
    image = Image.open(file)
    # Large JPEG files are decoded at a fraction of their size.
    image.draft(None, (2 * max(height, width), 2 * max(height, width)))
    image = ImageOps.exif_transpose(image)  # as the camera was held
    clear = image.info.get("transparency")
    if image.mode.startswith("I"):  # grey of 16 bits
        deep = np.asarray(image)
        values = np.rint(deep / 257).astype(np.uint8)
        image = Image.fromarray(np.where(deep == clear, 255, values).astype(np.uint8))
    elif image.mode in ("LA", "PA", "RGBA") or clear is not None:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if about["channels"] == 1 else "RGB")
    image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)  # cover, cut the centre
    values = np.asarray(image, dtype=np.float32) / 255
    return values.reshape(height, width, -1).transpose(2, 0, 1)


images = np.stack([pixels(file) for file in ["image.png"]])
RUN
for row in logits:
    print(about["classes"][int(row.argmax())])
```
"""
_RUN = {
    TORCHSCRIPT: """\
import torch

with torch.inference_mode():
    logits = torch.jit.load("model.pt")(torch.from_numpy(images)).numpy()""",
    ONNX: """\
import onnxruntime

(logits,) = onnxruntime.InferenceSession("model.onnx").run(["logits"], {"pixels": images})""",
}


def usage(form: str) -> str:
    """Return what a model's card says of how to give it images, in Markdown."""
    return _HERE if form == SAFETENSORS else _ELSEWHERE.replace("RUN", _RUN[form])
