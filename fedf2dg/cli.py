"""The ``fedf2dg`` command."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configuration import (
    ConfigurationError,
    RunConfiguration,
    Value,
    flatten,
    key_table,
    read_toml,
)
from foundation import ExpectedError
from processes import prepare, terminable

#: Exit status of a command that did not succeed.
FAILED = ExpectedError.exit_status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0 only if everything it was asked for succeeded."""
    chosen = parse(arguments)
    try:
        status: int = chosen.action(chosen)
        return status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output has seen enough; the interpreter must not try to flush the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except ExpectedError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read a command line; what is wrong with it ends the process, as argparse does."""
    parser = _parser()
    chosen, rest = parser.parse_known_args(arguments)
    # argparse gives up on positional arguments behind an option; KEY=VALUE may stand anywhere.
    if rest:
        if not hasattr(chosen, "settings") or any(text.startswith("-") for text in rest):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        chosen.settings = [*chosen.settings, *rest]
    return chosen


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fedf2dg",
        description="Data-free knowledge distillation for non-IID federated learning on Flower.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    simulate = commands.add_parser(
        "simulate",
        help="run a federation on this machine, to the end",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="keys:\n" + _key_help(),
    )
    simulate.add_argument(
        "--engine",
        choices=("flower", "local"),
        default="flower",
        help="flower: flwr run with Ray; local: without Ray and without a server (default: flower)",
    )
    simulate.add_argument("--clients", type=int, metavar="N", help="short for num-clients=N")
    simulate.add_argument(
        "--output", metavar="DIR", help="the run's directory; short for output-dir=DIR"
    )
    simulate.add_argument(
        "--config",
        action="append",
        default=[],
        type=Path,
        metavar="FILE.toml",
        help="read keys from a file; may be repeated, later ones win",
    )
    simulate.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="set a key; these win")
    simulate.set_defaults(action=_simulate)
    compare = commands.add_parser(
        "compare",
        help="compare methods over seeds: run what is missing, then tables and figures",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  fedf2dg compare strategy=fedavg,scaffold seed=0..4 "
        "dirichlet-alpha=0.05,0.5\nkeys: see fedf2dg simulate --help",
    )
    compare.add_argument(
        "--engine", choices=("local", "flower"), default="local", help="default: local"
    )
    compare.add_argument(
        "--jobs", type=int, default=0, metavar="N", help="runs at once (default: one per core)"
    )
    compare.add_argument(
        "--output", type=Path, metavar="DIR", help="default: outputs/compare-<what>"
    )
    compare.add_argument(
        "--config",
        action="append",
        default=[],
        type=Path,
        metavar="FILE.toml",
        help="keys, whose values may be lists, and [variant.NAME] tables; later files win",
    )
    compare.add_argument(
        "--baseline",
        default="",
        metavar="METHOD",
        help='what to compare with: a name, or "KEY=VALUE …" (default: the first)',
    )
    compare.add_argument(
        "settings",
        nargs="*",
        metavar="KEY=V1,V2,…",
        help="one or several values of a key; whole numbers also FIRST..LAST",
    )
    compare.set_defaults(action=_compare)
    keys = commands.add_parser("keys", help="print every configuration key as a Markdown table")
    keys.set_defaults(action=_keys)
    certificates = commands.add_parser(
        "certificates",
        help="make a deployment's TLS certificates and SuperNode keys (docs/deployment.md)",
    )
    certificates.add_argument("directory", type=Path, metavar="DIR")
    certificates.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME",
        help="name or address of the SuperLink, as others reach it; may be repeated",
    )
    certificates.add_argument(
        "--nodes", type=int, default=0, metavar="N", help="also make keys for N SuperNodes"
    )
    certificates.add_argument(
        "--days", type=int, default=365, help="validity of server.pem (default: 365)"
    )
    certificates.set_defaults(action=_certificates)
    example = commands.add_parser(
        "example-sites", help="write three sites' images and a test set, to try a deployment with"
    )
    example.add_argument("directory", type=Path, metavar="DIR")
    example.set_defaults(action=_example_sites)
    report = commands.add_parser("report", help="render the report of a run again")
    report.add_argument("run_directory", type=Path, metavar="RUN_DIR")
    report.add_argument(
        "--follow", action="store_true", help="watch a run that goes on, until it ends"
    )
    report.set_defaults(action=_report)
    return parser


def configured(chosen: argparse.Namespace) -> RunConfiguration:
    """Return the configuration that a ``simulate`` command names: files, keys, options.

    Raises
    ------
    ConfigurationError
        See :func:`server_app.preflight.parse`.
    """
    values: dict[str, Any] = {}
    for file in chosen.config:
        values.update(flatten(read_toml(file)))
    keys = settings(chosen.settings)
    values.update(keys)
    for option, name in (("clients", "num-clients"), ("output", "output-dir")):
        value = getattr(chosen, option)
        if value is None:
            continue
        if keys.get(name, value) != value:
            raise ConfigurationError(f"--{option} {value} and {name}={keys[name]} contradict")
        values[name] = value

    from server_app import preflight, run_directory

    if values.get("resume-from"):
        known = run_directory.settings_to_resume(Path(str(values["resume-from"])))
        taken = {name: value for name, value in known.items() if name not in values}
        defaults = RunConfiguration().flat()
        changed = [f"{name}={value}" for name, value in taken.items() if value != defaults[name]]
        if changed:
            print(f"as before: {' '.join(changed)}", flush=True)
        values.update(taken)
    return preflight.parse(values)


def _simulate(chosen: argparse.Namespace) -> int:
    with terminable():
        return _carry_out(chosen)


def _carry_out(chosen: argparse.Namespace) -> int:
    if chosen.engine == "local" and settings(chosen.settings).get("processes") != 1:
        prepare(["fedf2dg.simulation.local_run"])  # loaded while this process loads the same
    from server_app import preflight, run_directory

    values = _absolute_paths(configured(chosen))
    configuration = preflight.parse(values)
    preflight.check(configuration, simulated=True)
    if not configuration.output_dir:
        # Processes of the Flower engine have working directories of their own.
        values["output-dir"] = str(run_directory.locate(configuration))
        configuration = preflight.parse(values)
    if chosen.engine == "local":
        _log_to_standard_output()
        from fedf2dg.simulation.local_run import run_locally

        run_locally(configuration)
        return 0
    from fedf2dg.simulation.flower_engine import FlowerRunError, run_through_flower

    directory = Path(configuration.output_dir)
    run_through_flower(
        configuration.flat(), configuration.num_clients, sys.stdout, directory / "flower.log"
    )
    if not (directory / "summary.json").is_file():
        raise FlowerRunError(
            f"Flower says the run completed, but {configuration.output_dir} holds no summary.json"
        )
    return 0


def _keys(chosen: argparse.Namespace) -> int:
    print(key_reference(), end="")
    return 0


def key_reference() -> str:
    """Return ``docs/reference.md``: every key with its meaning, range, default and origin."""
    lines = [
        "# Configuration keys",
        "",
        "Printed by `fedf2dg keys` from `configuration.py`, the one place where a key is declared.",
        "The last column is the flag of the original research script.",
        "",
        "| key | default | meaning | range | original |",
        "|---|---|---|---|---|",
    ]
    for name, default, info in key_table():
        shown = f'"{default}"' if isinstance(default, str) else str(default)
        unit = f" ({info.unit})" if info.unit else ""
        lines.append(
            f"| `{name}` | `{shown}` | {info.meaning}{unit} | {info.range} | {info.original} |"
        )
    return "\n".join(lines) + "\n"


def _compare(chosen: argparse.Namespace) -> int:
    from fedf2dg.comparison import compare

    failed = compare(
        chosen.config,
        chosen.settings,
        engine=chosen.engine,
        jobs=chosen.jobs,
        output=chosen.output,
        baseline=chosen.baseline,
        say=lambda line: print(line, flush=True),
    )
    return FAILED if failed else 0


def _certificates(chosen: argparse.Namespace) -> int:
    from fedf2dg.deployment.certificates import write_certificates

    for path in write_certificates(chosen.directory, chosen.host, chosen.nodes, chosen.days):
        print(path)
    return 0


def _example_sites(chosen: argparse.Namespace) -> int:
    from fedf2dg.deployment.example_sites import write_example_sites

    write_example_sites(chosen.directory)
    print(chosen.directory)
    return 0


def _report(chosen: argparse.Namespace) -> int:
    from reporting import follow, write_report

    if chosen.follow:
        print(follow(chosen.run_directory, say=lambda line: print(line, flush=True)))
        return 0
    if not (chosen.run_directory / "config.json").is_file():
        raise ConfigurationError(f"{chosen.run_directory} is not the directory of a run")
    print(write_report(chosen.run_directory))
    return 0


def settings(arguments: Sequence[str]) -> dict[str, Value]:
    """Parse KEY=VALUE arguments; a value is read as the type its key has.

    Raises
    ------
    ConfigurationError
        If an argument has no ``=``, or its value is not of the key's type.
    """
    kinds = {name: type(default) for name, default, _ in key_table()}
    values: dict[str, Value] = {}
    for argument in arguments:
        name, separator, text = argument.partition("=")
        if not separator:
            raise ConfigurationError(
                f"{argument!r} is not of the form KEY=VALUE, e.g. strategy=fednova"
            )
        kind = kinds.get(name, str)
        try:
            values[name] = kind(text) if kind in (int, float) else text
        except ValueError:
            # Left as text: the parser's message names the key, the value and the type.
            values[name] = text
    return values


def _absolute_paths(configuration: RunConfiguration) -> dict[str, Value]:
    values = configuration.flat()
    for name in ("output-dir", "resume-from", "data-dir"):
        if values[name]:
            values[name] = str(Path(str(values[name])).expanduser().absolute())
    return values


def _log_to_standard_output() -> None:
    logger = logging.getLogger("flwr")
    logger.handlers.clear()
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_LevelFormatter())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


class _LevelFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        return text if record.levelno <= logging.INFO else f"{record.levelname}: {text}"


def _key_help() -> str:
    width = max(60, min(100, shutil.get_terminal_size((100, 24)).columns))
    lines = []
    for name, default, info in key_table():
        shown = f'"{default}"' if isinstance(default, str) else default
        text = info.meaning
        if info.choices and name != "stages":
            text += f" Choices: {', '.join(info.choices)}."
        if info.unit:
            text += f" Unit: {info.unit}."
        lines.append(f"  {name} = {shown}")
        lines += textwrap.wrap(text, width, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
