"""``fedf2dg new NAME``: a Flower app of one's own, a copy of ``examples/own_app``.

It runs as it is written in both engines, with ``flwr run`` and on real sites. Its files are one
package, which travels in its bundle and is part of the fingerprint that clients compare.
"""

import keyword
from pathlib import Path

from foundation import ConfigurationError, whole_folder, write_whole

from .console import data_folder


def write_new(folder: Path) -> None:
    """Write an app into a new folder, whose name is the app's and must be fit for one."""
    name = folder.resolve().name
    package = name.replace("-", "_")
    sound = package.isidentifier() and name == name.lower() and "_" not in name and len(name) <= 32
    if not sound or keyword.iskeyword(package):
        raise ConfigurationError(
            f"{name!r} cannot be the name of an app: take up to 32 lower-case letters, digits and "
            "hyphens, such as my-study"
        )
    if folder.exists():
        raise ConfigurationError(f"{folder} is there already: name a new folder")
    example = data_folder("examples") / "own_app"
    with whole_folder(folder) as aside:
        for file in (*example.glob("*.*"), *example.glob("own_app/*.py")):
            place = aside / file.relative_to(example).as_posix().replace("own_app", package)
            text = file.read_text("utf-8")
            write_whole(place, text.replace("own_app", package).replace("own-app", name))
