"""What to compare: methods × seeds, from KEY=V1,V2 arguments and TOML files.

A file holds run-configuration keys, whose values may be lists, and optionally two tables of its
own: ``[plan]`` (title, baseline, note) and ``[variant.NAME]``, one per named method, with the keys
in which it departs from the rest of the file.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from foundation import counted
from foundation.settings.configuration import (
    STAGES,
    ConfigurationError,
    RunConfiguration,
    Value,
    brought_sections,
    flatten,
    key_table,
    over_files,
    toml_tables,
    typed,
    with_present_names,
)

Parse = Callable[[Mapping[str, Any]], RunConfiguration]

#: Keys whose value may itself hold commas: on the command line they take one value.
_WHOLE = ("stages", "class-names", "data-dir")
#: Keys that are the comparison's own business.
_OWN = ("output-dir", "resume-from")
_RANGE = re.compile(r"\s*(\d+)\s*\.\.\s*(\d+)\s*")
_TYPES = {name: type(default) for name, default, _ in key_table()}


@dataclass(frozen=True)
class Method:
    """One of the things compared, everything about a run but its seed, as tables call it.

    It may belong to a named variant; ``chosen`` are its values of the keys that have several.
    """

    name: str
    variant: str
    chosen: Mapping[str, Value]


@dataclass(frozen=True)
class Cell:
    """One run to have: a method under a seed."""

    method: Method
    configuration: RunConfiguration

    @property
    def seed(self) -> int:
        """The seed of partition, initial weights and everything else drawn."""
        return self.configuration.seed

    @property
    def name(self) -> str:
        """Method and seed, as a progress line names them."""
        return f"{self.method.name}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """A comparison to make: methods in the order of the tables, baselines by the method's name.

    Cells are sorted by seed, then method: what is finished first can be compared already.
    """

    title: str
    note: str
    methods: tuple[Method, ...]
    cells: tuple[Cell, ...]
    baselines: Mapping[str, str]

    def of(self, method: Method) -> list[Cell]:
        """Return the cells of a method."""
        return [cell for cell in self.cells if cell.method == method]

    def varied(self) -> list[str]:
        """Return the keys in which cells differ, seed excepted, in the order of declaration."""
        flat = [cell.configuration.flat() for cell in self.cells]
        return [
            name
            for name in _TYPES
            if name != "seed" and len({settings[name] for settings in flat}) > 1
        ]


@dataclass
class _Draft:
    """What the files and arguments say, before it is multiplied out."""

    table: dict[str, Any] = field(default_factory=dict)
    base: dict[str, list[Any]] = field(default_factory=dict)
    variants: dict[str, dict[str, list[Any]]] = field(default_factory=dict)


def read_plan(
    files: Iterable[Path], arguments: Iterable[str], parse: Parse, baseline: str = ""
) -> Plan:
    """Read and multiply out a comparison.

    Of several TOML files later ones win; arguments, ``KEY=VALUE``, ``KEY=V1,V2`` or, for whole
    numbers, ``KEY=FIRST..LAST``, win over the files' keys, and variants over them. The baseline (by
    default the plan's own, else the first variant or value) is the name of a method, or
    ``KEY=VALUE`` pairs separated by spaces: each method's is then the one with these values and, in
    all other keys, its own. ConfigurationError if a file cannot be read, a cell's configuration is
    impossible, or the baseline is not among the methods.
    """
    draft = _Draft()
    for file in files:
        _read(file, draft)
    given: dict[str, list[Any]] = {}
    for argument in arguments:
        name, separator, text = argument.partition("=")
        if not separator:
            raise ConfigurationError(
                f"{argument!r} is not of the form KEY=VALUE, e.g. strategy=fedavg,scaffold"
            )
        pieces = [text] if name in _WHOLE else text.split(",")
        _put(given, name, [typed(name, piece.strip()) for piece in pieces])
    draft.base = over_files(draft.base, given)
    methods, cells = _multiply_out(draft, parse)
    wanted = baseline or str(draft.table.get("baseline", ""))
    return Plan(
        str(draft.table.get("title", "")),
        str(draft.table.get("note", "")),
        tuple(methods),
        tuple(sorted(cells, key=lambda cell: cell.seed)),
        _baselines(methods, wanted),
    )


def _read(file: Path, draft: _Draft) -> None:
    content = toml_tables(file)
    table, variants = content.pop("plan", {}), content.pop("variant", {})
    if not isinstance(table, dict) or set(table) - {"title", "baseline", "note"}:
        raise ConfigurationError(f"{file}: [plan] may hold title, baseline and note only")
    if not isinstance(variants, dict) or not all(isinstance(v, dict) for v in variants.values()):
        raise ConfigurationError(f"{file}: variants are tables, [variant.NAME]")
    draft.table.update(table)
    for name, value in flatten(content).items():
        _put(draft.base, name, value)
    for variant, settings in variants.items():
        draft.variants[variant] = {}
        for name, value in flatten(settings).items():
            _put(draft.variants[variant], name, value)


def _put(settings: dict[str, list[Any]], name: str, value: Any) -> None:
    """Set a key to its alternatives, ranges expanded, each once."""
    ((name, value),) = with_present_names({name: value}).items()
    if name in _OWN:
        if value == "":  # an app's pyproject.toml names every key that flwr run may change
            return
        raise ConfigurationError(f"{name} cannot be set: compare chooses each run's directory")
    alternatives: list[Any] = []
    for item in value if isinstance(value, list) else [value]:
        span = _RANGE.fullmatch(item) if isinstance(item, str) else None
        if span and _TYPES.get(name) is int:
            alternatives += range(int(span[1]), int(span[2]) + 1)
        else:
            alternatives.append(item)
    if not alternatives:
        raise ConfigurationError(f"{name} = {value!r} holds no value")
    settings[name] = [a for i, a in enumerate(alternatives) if a not in alternatives[:i]]


def _multiply_out(draft: _Draft, parse: Parse) -> tuple[list[Method], list[Cell]]:
    drafted: list[tuple[Method, dict[str, Any], list[Any]]] = []
    for variant, own in draft.variants.items() or [("", {})]:
        settings = {**draft.base, **own}
        seeds = settings.pop("seed", [RunConfiguration().seed])
        several = [name for name, alternatives in settings.items() if len(alternatives) > 1]
        for values in itertools.product(*settings.values()):
            chosen = dict(zip(settings, values, strict=True))
            picked = {name: chosen[name] for name in several}
            method = Method(_method_name(variant, picked, chosen), variant, picked)
            drafted.append((method, chosen, seeds))
    brought = [set(brought_sections(chosen)) for _, chosen, _ in drafted]
    cells: list[Cell] = []
    for (method, chosen, seeds), own_sections in zip(drafted, brought, strict=True):
        # Settings that a member of the user's own brings are none of the other methods'.
        others = set[str]().union(*brought) - own_sections
        kept = {name: v for name, v in chosen.items() if name.partition(".")[0] not in others}
        cells += [Cell(method, parse({**kept, "seed": seed})) for seed in seeds]
    return [method for method, _, _ in drafted], cells


def _method_name(variant: str, picked: Mapping[str, Value], everything: Mapping[str, Value]) -> str:
    leaves = [name.rsplit(".", 1)[-1] for name in picked]
    parts = [variant] if variant else []
    for name, value in picked.items():
        leaf = name.rsplit(".", 1)[-1]
        shown = leaf if leaves.count(leaf) == 1 else name
        parts.append(str(value) if name == "strategy" else f"{shown}={value}")
    return " ".join(parts) or str(everything.get("strategy", RunConfiguration().strategy))


def _baselines(methods: Sequence[Method], wanted: str) -> dict[str, str]:
    names = [method.name for method in methods]
    if wanted in names or (not wanted and methods[0].variant):
        return {name: wanted or names[0] for name in names if name != (wanted or names[0])}
    fixed: dict[str, Any] = dict(list(methods[0].chosen.items())[:1])
    if wanted:
        pairs = (pair.partition("=") for pair in wanted.split() if "=" in pair)
        fixed = {name: typed(name, text) for name, _, text in pairs}
    found = {}
    for method in methods:
        target = {**method.chosen, **fixed}
        for other in methods:
            same_variant = other.variant == method.variant
            if same_variant and other.chosen == target and other != method:
                found[method.name] = other.name
    if wanted and not found:
        raise ConfigurationError(f"baseline {wanted!r} is none of the methods: {', '.join(names)}")
    return found


#: Keys that say where and how patiently a run is made, not what it computes.
_ASIDE = (
    "output-dir",
    "resume-from",
    "stages",
    "round-timeout",
    "node-timeout",
    "client-identity",
    "sinks",
    "processes",
    "threads",
)
#: First stage a key matters for. The number of rounds may grow on resuming, but decides the result
#: of training all the same.
_STAGE_OF = {
    name: STAGES[0] if name == "num-server-rounds" or info.binds == "run" else info.binds
    for name, _, info in key_table()
    if name not in _ASIDE
}

_KNOWN = {*_ASIDE, *_STAGE_OF, "hook"}


def identity(settings: Mapping[str, Any], stages: Iterable[str], engine: str = "local") -> str:
    """Name what a run computes, in ten digits: equal for equal results, up to rounding.

    ``settings`` are all keys, ``stages`` those computed so far, in this run or the ones it started
    from. Engines count as different: their times are.
    """
    done = tuple(stages)
    reached = STAGES.index(done[-1])
    relevant = {
        name: settings.get(name)
        for name, stage in _STAGE_OF.items()
        if STAGES.index(stage) <= reached
    }
    # The settings of a user's own members may matter from the first stage on.
    relevant |= {name: value for name, value in settings.items() if name not in _KNOWN}
    text = json.dumps([relevant, done, engine], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


@dataclass(eq=False)
class Run:
    """One run directory to make; its name is readable and ends with its identity.

    ``path`` are all stages behind which it ends; it starts from the checkpoints of ``start``, and
    ``followers`` start from its own. ``cells`` are those whose result it is: none, if it only
    serves others.
    """

    identity: str
    name: str
    configuration: RunConfiguration
    path: tuple[str, ...]
    start: Self | None = None
    cells: list[Cell] = field(default_factory=list)
    followers: list[Self] = field(default_factory=list)

    @property
    def stages(self) -> str:
        """The stages it runs itself, as the key ``stages`` takes them."""
        inherited = len(self.start.path) if self.start else 0
        return ",".join(self.path[inherited:])

    @property
    def title(self) -> str:
        """What a progress line calls it."""
        if self.cells:
            return " = ".join(dict.fromkeys(cell.name for cell in self.cells))
        seed = self.configuration.seed
        return f"stages {'+'.join(self.path)} of {counted(self.served, 'cell')}, seed {seed}"

    @property
    def served(self) -> int:
        """Number of cells that build on it, its own included."""
        return len(self.cells) + sum(follower.served for follower in self.followers)


def share(cells: Iterable[Cell], engine: str = "local") -> list[Run]:
    """Arrange cells as runs that share their common stages, each after the one it starts from.

    There is one run per distinct cell, and one for each beginning that two or more runs share.
    """
    runs: dict[str, Run] = {}
    for cell in cells:
        before: Run | None = None
        settings, stages = cell.configuration.flat(), cell.configuration.stage_names
        for end in range(1, len(stages) + 1):
            path = stages[:end]
            key = identity(settings, path, engine)
            if key not in runs:
                runs[key] = Run(key, "", cell.configuration, path, before)
                if before:
                    before.followers.append(runs[key])
            before = runs[key]
        assert before is not None
        before.cells.append(cell)
    for run in list(runs.values()):
        if not run.cells and len(run.followers) == 1:  # only one other starts from it
            (follower,) = run.followers
            follower.start = run.start
            if run.start:
                run.start.followers[run.start.followers.index(run)] = follower
            del runs[run.identity]
    for run in runs.values():
        run.name = _directory_name(run)
    return list(runs.values())


def _directory_name(run: Run) -> str:
    label = run.cells[0].method.name if run.cells else f"shared-{'-'.join(run.path)}"
    slug = re.sub(r"[^A-Za-z0-9.=_-]+", "-", label).strip("-.")[:60]
    return f"{slug}-s{run.configuration.seed}-{run.identity}"
