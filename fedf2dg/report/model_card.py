"""The card of a trained model: what it learned from what, how good it is, and who says so."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fedf2dg.report.document import Table, escaped, written
from fedf2dg.report.judgements import gains_table, own_layers, privacy, verdicts
from fedf2dg.report.run_record import mapping, number
from fedf2dg.report.tables import EXPLAINED
from fedf2dg.report.verdict import MEANING, Evidence, classes_table, on_the_whole, sites_table
from fedf2dg.use import ONNX, SAFETENSORS, TORCHSCRIPT
from foundation import counted
from foundation.wording import listed

if TYPE_CHECKING:
    from foundation.models import ModelDescription


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


def model_card(summary: Mapping[str, Any], *, kept: str, model: "ModelDescription") -> str:
    """Return the ``README.md`` of a run's model, that of the stage ``kept``: a model card."""
    clients, rounds = (int(number(summary.get(name)) or 0) for name in ("clients", "rounds"))
    height, width = model.image_size
    kind, dataset = "grey" if model.channels == 1 else "colour", str(summary.get("dataset"))
    mean, std = (", ".join(f"{value:.6g}" for value in part) for part in (model.mean, model.std))
    facts = {
        "kind of data": f"{kind} images of {height}x{width} pixels (height x width), {dataset}",
        "an image's way in": (
            f"upright, transparent parts white; scaled until it covers {height}x{width} pixels "
            "(bicubic), cut at the centre; each channel (byte / 255 - mean) / deviation with mean "
            f"{mean} and deviation {std}"
        ),
        "classes": f"{len(model.classes)}: {listed(model.classes)}",
        "architecture": model.architecture,
        "clients": f"{clients:,}",
        "training": f"{summary.get('strategy')}, {counted(rounds, 'federated round')}",
        "post-training": str(summary.get("post_training")),
        "stage that was kept": f"{kept}: {EXPLAINED[kept]}" if kept in EXPLAINED else kept,
        **privacy(summary),
        "seed": str(summary.get("seed")),
    }
    said = verdicts(summary)
    said = said or [f"Nobody judged: the model is the result of the last stage, {kept}"]
    evidence = Evidence.of(summary)
    found, numbers = on_the_whole(evidence, model.classes)
    tables = [sites_table(evidence, model.classes), gains_table(evidence.own)]
    if evidence.whole:
        tables.append(classes_table(evidence.whole, model.classes))
    own, table = own_layers(summary)
    tables.append(table)
    return written(
        "card",
        # A string in JSON is one in YAML.
        dataset_tag=json.dumps(dataset),
        dataset=escaped(dataset),
        clients=counted(clients, "client"),
        pooled=summary.get("strategy") == "centralized",
        facts=Table("", ["what", "value"], [list(fact) for fact in facts.items()], words=(0, 1)),
        verdicts=[escaped(sentence) for sentence in said],
        word=escaped(found.word),
        numbers=escaped(f"{numbers} {found.classes}".strip()),
        tables=[table for table in tables if table.rows],
        meaning=f"{MEANING} {own}".strip(),
        traffic=_traffic(summary),
        usage=usage(SAFETENSORS),
    )


def _traffic(summary: Mapping[str, Any]) -> Table:
    sizes = {
        kind: int(number(mapping(size).get("bytes_up")) or 0)
        for kind, size in mapping(summary.get("traffic")).items()
    }
    rows = [[kind, f"{size:,}"] for kind, size in sizes.items() if size]
    return Table("", ["what", "bytes, all clients together"], rows)


def usage(form: str) -> str:
    """Return what a model's card says of how to give it images, in Markdown."""
    return _HERE if form == SAFETENSORS else _ELSEWHERE.replace("RUN", _RUN[form])
