"""Messages go out one by one, replies come in as they come, and memory stays flat.

Flower's private interface changes without notice, so it is used in one file.
"""

import ast
import math
import time
import tomllib
import weakref
from pathlib import Path

import pytest
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp

from fedf2dg.simulation.local_grid import LocalGrid
from foundation.messages.exchange import exchange

ROOT = Path(__file__).resolve().parents[3]
PUBLIC = ("flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.simulation")


@pytest.fixture
def grid():
    app = ClientApp()

    @app.query("echo")
    def echo(message, context):
        return Message(RecordDict(), reply_to=message)

    grid = LocalGrid(app, 30)
    grid.window = math.inf  # like a SuperLink
    return grid


def messages(nodes):
    return (Message(RecordDict(), node, "query.echo") for node in nodes)


def test_every_reply_comes_once_and_without_waiting(grid):
    started = time.perf_counter()
    replies = [r.metadata.src_node_id for r in exchange(grid, messages(grid.get_node_ids()), 60)]
    assert sorted(replies) == grid.get_node_ids()
    assert time.perf_counter() - started < 2.0, "it polls where replies are ready"


def test_one_reply_is_alive_at_a_time(grid):
    alive = []
    for reply in exchange(grid, messages(grid.get_node_ids()), 60):
        alive.append(weakref.ref(reply.content))
        del reply
    assert all(reference() is None for reference in alive[:-1])


def test_of_many_replies_that_are_ready_a_few_are_in_memory(grid):
    """A SuperLink gives everything it is asked for, unlike the in-process grid."""
    one = grid.pull_messages
    asked = []

    def pull(identities):
        asked.append(len(identities))
        return [reply for identity in identities for reply in one([identity])]

    grid.pull_messages = pull
    replies = [r.metadata.src_node_id for r in exchange(grid, messages(grid.get_node_ids()), 60)]
    assert sorted(replies) == grid.get_node_ids()
    assert max(asked) <= 4


def test_a_reply_behind_many_that_do_not_come_is_found_and_the_last_look_is_at_all(grid):
    one, ready = grid.pull_messages, []

    def pull(identities):
        return one([identity for identity in identities if identity in ready])

    push = grid.push_messages

    def note(pushed):
        identities = push(pushed)
        if pushed[0].metadata.dst_node_id in (100 + 17, 100 + 29):
            ready.extend(identities)
        return identities

    grid.pull_messages, grid.push_messages = pull, note
    replies = [r.metadata.src_node_id for r in exchange(grid, messages(grid.get_node_ids()), 0)]
    assert sorted(replies) == [117, 129]


def test_gives_up_when_the_time_is_over(grid):
    grid.pull_messages = lambda identities: []
    started = time.perf_counter()
    assert list(exchange(grid, messages([100]), 0.25)) == []
    assert 0.2 < time.perf_counter() - started < 5.0


def test_clients_that_only_wait_for_a_processor_are_waited_for(grid):
    grid.always_answers = True
    one, looks = grid.pull_messages, []

    def slow(identities):
        looks.append(1)
        return one(identities) if len(looks) > 4 else []

    grid.pull_messages = slow
    assert len(list(exchange(grid, messages(grid.get_node_ids()[:3]), 0.01))) == 3


def test_nobody_asked_nobody_answers(grid):
    assert list(exchange(grid, messages([]), 60)) == []


def test_a_slow_server_is_asked_rarely_and_still_at_the_end(grid):
    asked = []

    def pull(identities):
        asked.append(time.perf_counter())
        time.sleep(0.1)
        return []

    grid.pull_messages = pull
    started = time.perf_counter()
    assert list(exchange(grid, messages(grid.get_node_ids()[:4]), 1.5)) == []
    assert time.perf_counter() - started > 1.5
    assert 2 <= len(asked) <= 5  # every 0.5 s; without the longer pause, every 0.2 s


def test_whoever_is_silent_in_a_window_gives_its_place_to_the_next(grid):
    grid.window = 2
    one, silent = grid.pull_messages, []
    push = grid.push_messages

    def note(pushed):
        identities = push(pushed)
        if pushed[0].metadata.dst_node_id < 102:
            silent.extend(identities)
        return identities

    grid.push_messages = note
    grid.pull_messages = lambda ids: one([identity for identity in ids if identity not in silent])
    replies = [r.metadata.src_node_id for r in exchange(grid, messages(range(100, 106)), 0.1)]
    assert replies == [102, 103, 104, 105]


def test_a_grid_without_a_window_is_given_everything_at_once(grid):
    """A SuperLink hands it to clients that work at the same time."""
    pull, waiting = grid.pull_messages, []
    grid.pull_messages = lambda ids: waiting.append(len(grid._queue)) or pull(ids)
    assert len(list(exchange(grid, messages(grid.get_node_ids()), 60))) == 30
    assert waiting[0] == 30


def imported(file: Path) -> set[str]:
    """Return every module of Flower that a file imports from, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(str(node.module))
    return {name for name in names if name.split(".")[0] == "flwr"}


def test_only_one_file_uses_what_flower_keeps_private() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    parts = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    files = [
        file
        for part in parts
        for file in ([ROOT / part] if part.endswith(".py") else (ROOT / part).rglob("*.py"))
    ]
    assert len(files) > 80
    private = {
        file.relative_to(ROOT).as_posix()
        for file in files
        if any(not f"{name}.".startswith(tuple(f"{p}." for p in PUBLIC)) for name in imported(file))
        or "metadata.__dict__" in file.read_text("utf-8")
    }
    assert private == {"foundation/messages/exchange.py"}
