"""What the engine flower starts: an app that holds code alone, with proxies kept out."""

import tomllib
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk

from fedf2dg.simulation.flower_engine import _without_proxy, write_app
from foundation.settings.configuration import RunConfiguration, flatten


@pytest.mark.parametrize(
    ("environment", "exempt"),
    [
        ({}, "127.0.0.1,localhost"),
        ({"http_proxy": "http://p:1"}, "127.0.0.1,localhost"),
        ({"no_proxy": "a.org, .b.org"}, "a.org,.b.org,127.0.0.1,localhost"),
        ({"NO_PROXY": "localhost", "no_proxy": "x"}, "x,localhost,127.0.0.1"),
    ],
)
def test_a_proxy_is_kept_out_of_what_stays_on_this_machine(environment, exempt) -> None:
    assert _without_proxy(environment) == {"no_proxy": exempt, "NO_PROXY": exempt}


def test_the_app_of_a_run_has_its_settings_and_no_file_but_code(tmp_path: Path) -> None:
    values = RunConfiguration.parse({"class-names": 'Größe "a", b\\c', "moon.mu": 2.0}).flat()
    app = write_app(tmp_path / "app", values)
    pyproject = tomllib.loads((app / "pyproject.toml").read_text("utf-8"))
    assert flatten(pyproject["tool"]["flwr"]["app"]["config"]) == values
    (app / "config.json").write_text("{}")
    assert b"config.json" not in build_fab_from_disk(app)
