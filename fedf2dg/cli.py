"""The ``fedf2dg`` command."""

import argparse
import io
import shutil
import sys
import textwrap
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedf2dg import prefer_ours
from fedf2dg.console import FAILED, data_folder, exit_status, plain_warnings
from fedf2dg.simulation import ENGINES
from fedf2dg.use import FORMATS
from foundation import write_whole
from foundation.processes import prepare, terminable
from foundation.settings.configuration import (
    ConfigurationError,
    RunConfiguration,
    Value,
    as_toml,
    flatten,
    key_table,
    over_files,
    read_toml,
    typed,
)
from foundation.wording import unknown

_SITE = (
    "use the part of the model that this site has for itself: the folder or file of its images, "
    "its keep-path, or its name in a simulation"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0 only if everything it was asked for succeeded."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an ASCII terminal must not end a command
            stream.reconfigure(errors="replace")
    prefer_ours()
    chosen = parse(arguments)
    # The log of a run is what its command prints; other commands have results of their own.
    with plain_warnings(sys.stdout if chosen.action is _simulate else sys.stderr):
        return exit_status(lambda: chosen.action(chosen))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read a command line; what is wrong with it ends the process, as argparse does."""
    parser = _parser()
    chosen, rest = parser.parse_known_args(arguments)
    # argparse gives up on positional arguments behind an option; these may stand anywhere.
    if rest:
        several = next((name for name in ("settings", "images") if hasattr(chosen, name)), None)
        if several is None or any(text.startswith("-") for text in rest):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        setattr(chosen, several, [*getattr(chosen, several), *rest])
    return chosen


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fedf2dg",
        description="Data-free knowledge distillation for non-IID federated learning on Flower.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, action: Callable[[argparse.Namespace], int | None], help: str, **more: Any
    ) -> Callable[..., argparse.Action]:
        made = commands.add_parser(
            name, help=help, formatter_class=argparse.RawDescriptionHelpFormatter, **more
        )
        made.set_defaults(action=action)
        return made.add_argument

    config: dict[str, Any] = {
        "action": "append",
        "default": [],
        "type": settings_file,
        "metavar": "FILE.toml|PRESET",
    }
    add = command(
        "simulate",
        _simulate,
        "run a federation on this machine, to the end",
        epilog="keys:\n" + _key_help(),
    )
    engines = "flower: flwr run with Ray; local: without Ray and without a server"
    add("--engine", choices=ENGINES, default="flower", help=f"{engines} (default: flower)")
    add("--clients", type=int, metavar="N", help="short for num-clients=N")
    add("--output", metavar="DIR", help="the run's directory; short for output-dir=DIR")
    more = "read keys from a file, an app's pyproject.toml, or a preset; later ones win"
    add("--config", help=more, **config)
    more = "write all that as a file that flwr run --run-config takes, and run nothing"
    add("--write-config", type=Path, metavar="FILE.toml", help=more)
    add("settings", nargs="*", metavar="KEY=VALUE", help="set a key; these win")
    add = command(
        "compare",
        _compare,
        "compare methods over seeds: run what is missing, then tables and figures",
        epilog="example:\n  fedf2dg compare strategy=fedavg,scaffold seed=0..4 "
        "dirichlet-alpha=0.05,0.5\nkeys: see fedf2dg simulate --help",
    )
    add("--engine", choices=ENGINES, default="local", help="default: local")
    add("--jobs", type=int, default=0, metavar="N", help="runs at once (default: one per core)")
    add("--output", type=Path, metavar="DIR", help="default: outputs/compare-<what>")
    more = "keys, whose values may be lists, and [variant.NAME] tables; later files win"
    add("--config", help=more, **config)
    more = "make a published table again, by its name or its plan, and say what differs"
    add("--reproduce", type=table, metavar="TABLE", help=more)
    more = 'what to compare with: a name, or "KEY=VALUE …" (default: the first)'
    add("--baseline", default="", metavar="METHOD", help=more)
    more = "one or several values of a key; whole numbers also FIRST..LAST"
    add("settings", nargs="*", metavar="KEY=V1,V2,…", help=more)
    command("keys", _keys, "print every configuration key as a Markdown table")
    add = command(
        "certificates",
        _certificates,
        "make a deployment's TLS certificates and SuperNode keys (docs/deployment.md)",
    )
    add("directory", type=Path, metavar="DIR")
    more = "name or address of the SuperLink, as others reach it; may be repeated"
    add("--host", action="append", default=[], metavar="NAME", help=more)
    add("--nodes", type=int, default=0, metavar="N", help="also make keys for N SuperNodes")
    add("--days", type=int, default=365, help="validity of server.pem (default: 365)")
    more = "write three sites' images and a test set, to try a deployment with"
    add = command("example-sites", _example_sites, more)
    add("directory", type=Path, metavar="DIR")
    more = "write a Flower app of your own, with a strategy, a model and data as examples"
    command("new", _new, more)("directory", type=Path, metavar="NAME", help="a new folder")
    add = command("report", _report, "render the report of a run again")
    add("run_directory", type=Path, metavar="RUN_DIR")
    add("--follow", action="store_true", help="watch a run that goes on, until it ends")
    add = command(
        "diagnose",
        _diagnose,
        "say what a trained federation could gain: teacher, head or images",
        description="Measure, on the server's test images, what the local models say together and,"
        "\nin a simulation, a head refitted on real images and a distillation from real images.",
    )
    add("run_directory", type=Path, metavar="RUN_DIR")
    add = command("predict", _predict, "classify images with the model of a run")
    add("model", type=Path, metavar="RUN_OR_MODEL", help="a directory")
    add("images", nargs="+", metavar="IMAGE", help="a file, or a folder of images")
    add("--site", default="", metavar="SITE", help=_SITE)
    add("--top", type=_positive, default=3, metavar="N", help="classes to name (default: 3)")
    form = commands.choices["predict"].add_mutually_exclusive_group()
    for name, more in (("json", "print a list of objects"), ("csv", "print a line for each image")):
        form.add_argument(
            f"--{name}", dest="form", action="store_const", const=name, default="text", help=more
        )
    add = command(
        "evaluate",
        _evaluate,
        "say how good the model of a run is on labelled images",
        description="Classify the images of folders that are laid out as training reads them "
        "(CLASS/*.png,\na parquet file, or a folder of sites), and write the figures and a page: "
        "the verdict,\nthe wrong images, and how sure the model is.",
    )
    add("model", type=Path, metavar="RUN_OR_MODEL", help="a directory")
    add("folders", nargs="+", type=Path, metavar="FOLDER", help="labelled images")
    add("--site", default="", metavar="SITE", help=_SITE)
    add("--output", type=Path, metavar="DIR", help="where to write (default: RUN_OR_MODEL)")
    add = command("export", _export, "hand the model of a run to another program")
    add("model", type=Path, metavar="RUN_OR_MODEL", help="a directory")
    add("--to", type=Path, required=True, metavar="DIR", help="a new directory")
    add("--format", choices=FORMATS, default=FORMATS[0], help="default: %(default)s")
    return parser


def settings_file(text: str) -> Path:
    """Return a file of settings: by its path, or a preset by its name."""
    return _by_name(text, data_folder("presets"), "preset")


def table(text: str) -> Path:
    """Return the plan of a published table: by its path, or one of ours by its name."""
    return _by_name(text, data_folder("presets") / "tables", "published table")


def _by_name(text: str, folder: Path, kind: str) -> Path:
    path = Path(text)
    if not path.exists() and (folder / f"{text}.toml").is_file():
        return folder / f"{text}.toml"
    if not path.exists() and path.name == text and not path.suffix:
        names = [preset.stem for preset in sorted(folder.glob("*.toml"))]
        raise argparse.ArgumentTypeError(unknown(kind, text, names))
    return path


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of 1 or more")
    return int(text)


def configured(chosen: argparse.Namespace) -> RunConfiguration:
    """Return the configuration that a ``simulate`` command names: files, keys, options."""
    return _parsed(_given(chosen))


def _parsed(values: dict[str, Any]) -> RunConfiguration:
    if values.get("partition") == "folders" and "num-clients" not in values:
        from server_app import preflight  # the folders tell how many sites there are

        return preflight.parse(values)
    return RunConfiguration.parse(values)


def _given(chosen: argparse.Namespace) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for file in chosen.config:
        values.update(flatten(read_toml(file)))
    keys = settings(chosen.settings)
    values = over_files(values, keys)
    for option, name in (("clients", "num-clients"), ("output", "output-dir")):
        value = getattr(chosen, option)
        if value is None:
            continue
        if keys.get(name, value) != value:
            raise ConfigurationError(f"--{option} {value} and {name}={keys[name]} contradict")
        values[name] = value

    if values.get("resume-from"):
        from server_app import run_directory

        known = run_directory.settings_to_resume(Path(str(values["resume-from"])))
        taken = {name: value for name, value in known.items() if name not in values}
        defaults = RunConfiguration().flat()
        changed = [
            f"{name}={value}" for name, value in taken.items() if value != defaults.get(name)
        ]
        if changed:
            print(f"as before: {' '.join(changed)}", flush=True)
        values.update(taken)
    return values


def _simulate(chosen: argparse.Namespace) -> None:
    configuration = _parsed(given := _given(chosen))
    if chosen.write_config is not None:
        _write_config(chosen.write_config, configuration, given)
        return
    if chosen.engine == "local" and configuration.processes != 1:
        prepare(["fedf2dg.simulation.local_run"])  # loaded while this process loads the same
    from fedf2dg.simulation.simulate import simulate

    with terminable():
        simulate(configuration, chosen.engine, sys.stdout)


def _write_config(file: Path, configuration: RunConfiguration, given: Collection[str]) -> None:
    """Write the keys that are given or differ from the defaults, as ``flwr run`` reads them."""
    if file.suffix != ".toml":
        raise ConfigurationError(f"--write-config {file}: flwr run takes files called NAME.toml")
    defaults = RunConfiguration().flat()
    kept = {n: v for n, v in configuration.flat().items() if n in given or v != defaults.get(n)}
    write_whole(file, f"# flwr run APP FEDERATION --run-config {file.name}\n{as_toml(kept)}")
    print(file)


def _keys(chosen: argparse.Namespace) -> None:
    print(key_reference(), end="")


def key_reference() -> str:
    """Return ``docs/reference.md``: every key, and what its declaration says."""
    lines = [
        "# Configuration keys",
        "",
        "Printed by `fedf2dg keys` from the declarations in `foundation/settings/`, where each",
        "section is a class. A symbol is the paper's; the last column holds the flag of",
        "the original research script.",
        "",
        "| key | default | meaning | symbol | range | original |",
        "|---|---|---|---|---|---|",
    ]
    for name, default, info in key_table():
        shown = f'"{default}"' if isinstance(default, str) else str(default)
        unit = f" ({info.unit})" if info.unit else ""
        lines.append(
            f"| `{name}` | `{shown}` | {info.meaning}{unit} | {info.symbol} | {info.range} "
            f"| {info.original} |"
        )
    return "\n".join(lines) + "\n"


def _compare(chosen: argparse.Namespace) -> int:
    from fedf2dg.compare import read_plan

    # What can be seen at once to be wrong is refused before PyTorch and Flower are loaded.
    files = [*([chosen.reproduce] if chosen.reproduce else []), *chosen.config]
    read_plan(files, chosen.settings, RunConfiguration.parse, chosen.baseline)
    from fedf2dg.compare.comparison import compare

    failed = compare(
        chosen.config,
        chosen.settings,
        engine=chosen.engine,
        jobs=chosen.jobs,
        output=chosen.output,
        baseline=chosen.baseline,
        reproduce=chosen.reproduce,
        say=lambda line: print(line, flush=True),
    )
    return FAILED if failed else 0


def _certificates(chosen: argparse.Namespace) -> None:
    from fedf2dg.deployment.certificates import write_certificates

    for path in write_certificates(chosen.directory, chosen.host, chosen.nodes, chosen.days):
        print(path)


def _example_sites(chosen: argparse.Namespace) -> None:
    from fedf2dg.starters import write_example_sites

    write_example_sites(chosen.directory)
    print(chosen.directory)


def _new(chosen: argparse.Namespace) -> None:
    from fedf2dg.starters import write_new

    write_new(chosen.directory)
    print(f"{chosen.directory}: README.md there says how to run it")


def _report(chosen: argparse.Namespace) -> None:
    from fedf2dg.report import follow, write_report

    if chosen.follow:
        print(follow(chosen.run_directory, say=lambda line: print(line, flush=True)))
    elif not (chosen.run_directory / "config.json").is_file():
        raise ConfigurationError(f"{chosen.run_directory} is not the directory of a run")
    else:
        print(write_report(chosen.run_directory))


def _diagnose(chosen: argparse.Namespace) -> None:
    from fedf2dg.diagnosis import diagnose
    from fedf2dg.report import write_report
    from fedf2dg.report.tables import DIAGNOSIS, ceilings_table
    from foundation import only_warned

    print(ceilings_table([asdict(found) for found in diagnose(chosen.run_directory)]).terminal())
    print(chosen.run_directory / DIAGNOSIS)
    with only_warned("the report"):
        print(write_report(chosen.run_directory))


def _predict(chosen: argparse.Namespace) -> int:
    from fedf2dg.use.predict import predict_files
    from fedf2dg.use.trained_model import load_model

    failed = predict_files(
        load_model(chosen.model, site=chosen.site),
        [Path(name) for name in chosen.images],
        top=chosen.top,
        form=chosen.form,
        output=sys.stdout,
        warn=lambda line: print(line, file=sys.stderr),
    )
    return FAILED if failed else 0


def _evaluate(chosen: argparse.Namespace) -> int:
    from fedf2dg.use.evaluate import evaluate, images_of, said, write_evaluation
    from fedf2dg.use.trained_model import load_model

    model = load_model(chosen.model, site=chosen.site)
    run, site = Path(chosen.model), chosen.site
    seen = images_of(run)
    found = evaluate(model, chosen.folders, lambda line: print(line, file=sys.stderr), seen)
    for line in said(model, found, run, site):
        print(line)
    print(write_evaluation(model, found, chosen.output or run, run, site))
    return FAILED if found.unread else 0


def _export(chosen: argparse.Namespace) -> None:
    from fedf2dg.use.export import export

    file, difference = export(chosen.model, chosen.to, chosen.format)
    print(f"{file}: its logits differ from the original's by {difference:.2g} at most")


def settings(arguments: Sequence[str]) -> dict[str, Value]:
    """Parse KEY=VALUE arguments; a value is read as the type its key has."""
    values: dict[str, Value] = {}
    for argument in arguments:
        name, separator, text = argument.partition("=")
        if not separator:
            raise ConfigurationError(
                f"{argument!r} is not of the form KEY=VALUE, e.g. strategy=fednova"
            )
        values[name] = typed(name, text)
    return values


def _key_help() -> str:
    width = max(60, min(100, shutil.get_terminal_size((100, 24)).columns))
    lines = []
    for name, default, info in key_table():
        shown = f'"{default}"' if isinstance(default, str) else default
        text = info.meaning
        if info.family or (info.choices and name != "stages"):
            text += f" Choices: {info.range}."
        if info.unit:
            text += f" Unit: {info.unit}."
        lines.append(f"  {name} = {shown}")
        lines += textwrap.wrap(text, width, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
