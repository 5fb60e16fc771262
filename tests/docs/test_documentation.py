"""The pages are honest: links lead somewhere, commands are understood, and examples work."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from flwr.common.config import parse_config_args
from PIL import Image

from fedf2dg import cli
from fedf2dg.compare import read_plan
from fedf2dg.starters import write_example_sites
from foundation.settings.configuration import key_table
from server_app import preflight
from tests.docs import pages
from tests.docs.pages import PAGES, ROOT, Command, name

KEYS = {key for key, _, _ in key_table()}
HOWTO = [page for page in PAGES if page.parent.name == "howto"]
#: Assignments in running text that are not configuration keys: Flower's options, shell variables.
OTHER_ASSIGNMENTS = re.compile(
    r"(client-resources-num-(cpus|gpus)|num-supernodes|data-path|keep-path|partition-id|site|site-name|[A-Z_0-9]+"
    r"|normalization|compile|statistics|mode|drop_singleton|capturable)=.*"
)
WITH_EXAMPLES = sorted({example.page for example in pages.examples() if example.page in HOWTO})


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_and_pictures_lead_to_something(page):
    found = pages.links(page)
    for target in found:
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name(page)} links to {target}"
        assert file.is_relative_to(ROOT), f"{name(page)} leads out of the repository: {target}"
        if anchor and file.suffix == ".md":
            assert anchor in pages.anchors(file), f"{name(page)} links to {target}"


def test_every_page_is_in_the_index_and_every_picture_is_used():
    index = ROOT / "docs" / "README.md"
    listed = {(index.parent / target).resolve() for target in pages.links(index)}
    assert [name(page) for page in PAGES[1:] if page not in {*listed, index}] == []
    used = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in pages.links(page)
        if "://" not in target
    }
    pictures = {path for path in (ROOT / "docs" / "images").iterdir() if path.is_file()}
    assert pictures <= used


def test_the_reference_of_keys_is_what_the_code_prints():
    """If this fails: fedf2dg keys > docs/reference.md."""
    assert (ROOT / "docs" / "reference.md").read_text("utf-8") == cli.key_reference()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_keys_in_running_text_exist(page):
    for piece in pages.inline_code(page):
        for assignment in re.findall(r"(?<![\w./(-])([a-z][a-z.-]*=\S*)", piece):
            key = assignment.partition("=")[0]
            known = key in KEYS or OTHER_ASSIGNMENTS.fullmatch(assignment)
            assert known, f"{name(page)} speaks of {piece!r}: there is no key {key!r}"


def documented(program: str) -> list[Command]:
    return [command for command in pages.commands() if command.words[0] == program]


def test_there_are_commands_to_check():
    """A change of the pages' layout must not empty the tests below."""
    assert len(documented("fedf2dg")) >= 30
    assert len(documented("flwr")) >= 4
    assert len(documented("make")) >= 3
    assert len(pages.examples()) >= 8
    assert len(WITH_EXAMPLES) >= 4


def test_fedf2dg_commands_are_understood(tmp_path, monkeypatch):
    """Known command, options, keys and values; those of pages with own code are run below."""
    monkeypatch.chdir(ROOT)
    write_example_sites(tmp_path / "sites")  # folders of sites tell how many there are
    for command in documented("fedf2dg"):
        if command.page in WITH_EXAMPLES:
            continue
        arguments = [word.replace("RUN_DIR", "runs/a") for word in command.words[1:]]
        arguments = [word.replace("/path/to", str(tmp_path)) for word in arguments]
        try:
            chosen = cli.parse(arguments)
            if arguments[0] == "simulate":
                cli.configured(chosen)
            elif arguments[0] == "compare":
                read_plan(chosen.config, chosen.settings, preflight.parse, chosen.baseline)
        except SystemExit as end:  # --help ends with 0
            assert not end.code, str(command)
        except Exception as error:
            raise AssertionError(f"{command}: {error}") from error


def test_run_configurations_of_flwr_commands_are_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("FED", str(tmp_path))
    for command in documented("fedf2dg"):  # those that write files for flwr
        if "--write-config" in command.words:
            assert not cli.main([os.path.expandvars(word) for word in command.words[1:]])
    for command in documented("flwr"):
        words = command.words
        if "--run-config" not in words:
            continue
        said = words[words.index("--run-config") + 1]
        given = parse_config_args([os.path.expandvars(said) if said.endswith(".toml") else said])
        try:
            preflight.parse(given)
        except Exception as error:
            raise AssertionError(f"{command}: {error}") from error
        unknown = set(given) - KEYS
        assert not unknown, f"{command}: {unknown}"


def test_make_targets_and_scripts_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for command in documented("make"):
        assert set(command.words[1:]) <= set(targets), str(command)
    saved = {(example.page, example.path) for example in pages.examples()}
    for command in documented("python"):
        script = command.words[1]
        if script != "-m":
            assert (ROOT / script).is_file() or (command.page, script) in saved, str(command)


def test_presets_of_the_pages_exist():
    for page in PAGES:
        for preset in re.findall(r"presets/[\w-]+\.toml", page.read_text("utf-8")):
            assert (ROOT / preset).is_file(), f"{name(page)}: {preset}"
            tomllib.loads((ROOT / preset).read_text("utf-8"))


def test_commands_that_only_write_files_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FED", str(tmp_path))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")  # some commands name a folder of the working directory
    ran = set()
    for command in documented("fedf2dg"):
        if command.words[1] not in ("certificates", "example-sites", "keys"):
            continue
        arguments = [os.path.expandvars(word) for word in command.words[1:]]
        assert cli.main(arguments) == 0, str(command)
        ran.add(arguments[0])
    assert {"certificates", "example-sites"} <= ran
    assert (tmp_path / "keys" / "ca.crt").is_file()
    assert (tmp_path / "sites" / "site-3.parquet").is_file()


def test_the_librarys_example_runs(capsys):
    (example,) = [example for example in pages.examples() if example.action == "run"]
    exec(compile(example.text, name(example.page), "exec"), {})
    out = capsys.readouterr().out
    assert "torch.Size([20, 3, 32, 32]) torch.Size([20, 10])" in out


@pytest.fixture(scope="module")
def copied_app(tmp_path_factory):
    """Copy the app, and make the changes that the pages tell their readers to make."""
    copy = tmp_path_factory.mktemp("app")
    for path in ROOT.iterdir():
        if path.suffix == ".py" or path.name in ("pyproject.toml", "presets", "README.md"):
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, copy / path.name)
        elif path.is_dir() and path.name not in ("tests", "docs") and list(path.glob("*.py")):
            shutil.copytree(path, copy / path.name, ignore=shutil.ignore_patterns("__pycache__"))
    for example in pages.examples():
        target = copy / example.path
        if example.action == "save as":
            assert not target.exists(), f"{example.path} of {name(example.page)} exists already"
            target.write_text(example.text, "utf-8")
        elif example.action == "append to":
            with target.open("a", encoding="utf-8") as file:
                file.write("\n\n" + example.text)
    write_photos(copy / "photos")
    return copy


def write_photos(directory: Path) -> None:
    """Write photographs of three classes, in several sizes and modes."""
    draw = np.random.default_rng(0)
    for index in range(3 * 40):
        folder = directory / ("cat", "dog", "owl")[index % 3]
        folder.mkdir(parents=True, exist_ok=True)
        size = (int(draw.integers(30, 60)), int(draw.integers(30, 60)))
        pixels = draw.integers(0, 80, (*size, 3)) + 60 * (index % 3)
        image = Image.fromarray(pixels.astype(np.uint8)).convert(("RGB", "L")[index % 2])
        image.save(folder / f"{index}.{('jpg', 'png')[index % 2]}")


def carry_out(copy: Path, commands: list[Command]) -> str:
    """Run commands at a tiny size, in one new process that imports the copy."""
    script = copy / "commands.json"
    script.write_text(json.dumps([command.words for command in commands]), "utf-8")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("run_commands.py")), str(script)],
        cwd=copy,
        # One thread: at these sizes several would only wait for each other.
        env={
            **os.environ,
            "PYTHONPATH": str(copy),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert done.stdout.count("\ndone in ") + done.stdout.startswith("done in ") == len(commands)
    return done.stdout


def runnable(page: Path) -> list[Command]:
    return [
        command
        for command in pages.commands(page)
        if command.words[0] in ("fedf2dg", "python") and "examples/" not in str(command)
    ]


@pytest.mark.slow
def test_own_data_model_strategy_and_method_work_as_written(copied_app):
    commands = [command for page in WITH_EXAMPLES for command in runnable(page)]
    commands += [
        command
        for command in pages.commands(ROOT / "README.md")
        if "strategy=middle" in str(command)
    ]
    names = " ".join(map(str, commands))
    for expected in (
        "dataset=folder",
        "dataset=parquet",
        "dataset=my_data:arrays",
        "model=my_models:separable",
    ):
        assert expected in names
    for expected in ("strategy=my_momentum:momentum", "post-training=my_methods:plain_mean"):
        assert expected in names
    said = carry_out(copied_app, commands)
    assert said.count("report: ") == sum(command.words[1] == "simulate" for command in commands)


@pytest.mark.slow
def test_the_quick_start_works_as_written(copied_app):
    """All but the first runs, which differ in nothing but settings, and the comparison."""
    commands = [
        command
        for command in runnable(ROOT / "docs" / "quickstart.md")
        if "runs/" in str(command) or command.words[1] == "compare"
    ]
    assert len(commands) == 9
    carry_out(copied_app, commands)
    runs = copied_app / "runs"
    for run in ("watched", "interrupted", "a", "b"):
        assert (runs / run / "summary.json").is_file()
    results = {r: json.loads((runs / r / "summary.json").read_text()) for r in ("a", "b")}
    assert results["a"]["accuracy"]["distilled"] is not None
    assert results["b"]["accuracy"]["competed"] is None
