"""Which stages the cells of a comparison have in common, so that each is computed once.

Cells that agree in the seed and in every key a stage depends on (``KeyInfo.binds``) have the same
result behind that stage. They become a tree: a cell starts from the run that holds the stages it
shares with others, as ``resume-from`` does.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from foundation import counted
from foundation.settings.configuration import STAGES, RunConfiguration, key_table

from .plan import Cell

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
        if not run.cells and len(run.followers) == 1:
            _bridge(run)
            del runs[run.identity]
    for run in runs.values():
        run.name = _directory_name(run)
    return list(runs.values())


def _bridge(run: Run) -> None:
    """Take a run that only one other starts from out of the tree."""
    (follower,) = run.followers
    follower.start = run.start
    if run.start:
        run.start.followers[run.start.followers.index(run)] = follower


def _directory_name(run: Run) -> str:
    label = run.cells[0].method.name if run.cells else f"shared-{'-'.join(run.path)}"
    slug = re.sub(r"[^A-Za-z0-9.=_-]+", "-", label).strip("-.")[:60]
    return f"{slug}-s{run.configuration.seed}-{run.identity}"
