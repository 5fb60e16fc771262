"""A run of MLflow; its own environment variables say where it is kept."""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foundation.errors import log
from foundation.events.sinks import Sink


class MlflowRun:
    """Numbers as metrics ``group/name``, pictures as artifacts, the settings as parameters."""

    def __init__(self, directory: Path, configuration: Mapping[str, Any]) -> None:
        import mlflow

        self._mlflow: Any = mlflow
        mlflow.start_run(run_name=directory.name)
        try:
            mlflow.log_params(dict(configuration))
        except mlflow.exceptions.MlflowException as error:
            # A run that is gone on with (MLFLOW_RUN_ID) keeps the parameters that it began with.
            log.warning(
                "MLflow keeps the parameters that its run has, and not those that are set now; "
                "metrics follow: %s",
                " ".join(str(error).split())[:300],
            )

    def numbers(self, group: str, step: int, values: Mapping[str, float]) -> None:
        named = {_permitted(f"{group}/{name}"): value for name, value in values.items()}
        self._mlflow.log_metrics(named, step=step)

    def picture(self, name: str, step: int, png: bytes) -> None:
        from PIL import Image

        self._mlflow.log_image(Image.open(io.BytesIO(png)), f"{_permitted(name)} {step}.png")

    def close(self) -> None:
        self._mlflow.end_run()


def _permitted(name: str) -> str:
    """Return a name without what MLflow refuses: clients choose their own names."""
    return re.sub(r"[^A-Za-z0-9_\-. /]", "_", name)


sink = Sink("mlflow", MlflowRun, "mlflow")
