"""The run configuration: what is accepted, what is refused, and what the refusal says."""

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from foundation.settings.algorithms import MoonSettings
from foundation.settings.configuration import (
    STAGES,
    ConfigurationError,
    RunConfiguration,
    flatten,
    key_table,
    member_sections,
    read_toml,
)
from post_training import methods

ROOT = Path(__file__).resolve().parents[3]

# The flags of the original research script that have a meaning here.
ORIGINAL_FLAGS = [
    "init_seed",
    "alg",
    "dataset",
    "datadir",
    "partition",
    "beta",
    "n_parties",
    "sample",
    "comm_round",
    "epochs",
    "batch-size",
    "lr",
    "rho",
    "reg",
    "mu",
    "model",
    "out_dim",
    "noise",
    "noise_type",
    "label_noise_type",
    "label_noise_rate",
    "device",
    "logdir",
    "bs",
    "num_batch",
    "iters_mi",
    "di_lr",
    "di_var_scale",
    "di_l2_scale",
    "r_feature_weight",
    "cig_scale",
    "kd_epochs",
    "kd_lr",
    "weight_decay",
    "momentum",
]

# Those of one run; plans of several are the comparison's, and its tests read them.
PRESETS = [
    path
    for path in sorted((ROOT / "presets").glob("*.toml"))
    if "[plan]" not in path.read_text("utf-8")
]


def refusal(values):
    with pytest.raises(ConfigurationError) as error:
        RunConfiguration.parse(values)
    return str(error.value)


def test_nothing_given_is_all_defaults():
    assert RunConfiguration.parse({}) == RunConfiguration()


def test_pyproject_declares_every_key_with_its_default():
    """Flower refuses a key that is not declared there; a type that differs changes the parser's."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    declared = flatten(pyproject["tool"]["flwr"]["app"]["config"])
    defaults = RunConfiguration().flat()
    assert declared == defaults
    assert {k: type(v) for k, v in declared.items()} == {k: type(v) for k, v in defaults.items()}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_presets_hold_known_keys_and_possible_values(preset):
    RunConfiguration.parse(read_toml(preset))


def test_flat_and_parse_are_inverse():
    configuration = RunConfiguration.parse(
        {"seed": 3, "moon.mu": 5.0, "stages": "train", "generation.form": "reference"}
    )
    assert RunConfiguration.parse(configuration.flat()) == configuration


def test_nested_tables_and_dotted_keys_mean_the_same():
    nested = {"moon": {"mu": 2.0}, "competition": {"rounds": 3}}
    dotted = {"moon.mu": 2.0, "competition.rounds": 3}
    assert RunConfiguration.parse(nested) == RunConfiguration.parse(dotted)
    assert RunConfiguration.parse(nested).competition.rounds == 3


def test_a_section_is_found_by_its_name_and_read_by_its_class():
    """To declare it in a file of the folder is all that it takes."""
    parsed = RunConfiguration.parse({"moon": {"mu": 2}})
    assert parsed.section(MoonSettings) == MoonSettings(mu=2.0)
    assert RunConfiguration().section(MoonSettings) == MoonSettings()
    declared = re.findall(
        r'^class \w+\(\w+, name="([a-z-]+)"',
        "".join(path.read_text() for path in (ROOT / "foundation" / "settings").glob("*.py")),
        re.MULTILINE,
    )
    assert sorted(declared) == list(member_sections()) and len(declared) >= 11


def test_is_frozen_and_can_be_a_key_of_a_cache():
    configuration = RunConfiguration()
    with pytest.raises(dataclasses.FrozenInstanceError):
        configuration.seed = 1  # type: ignore[misc]
    assert hash(configuration) == hash(RunConfiguration())


def test_whole_numbers_are_accepted_where_a_number_is_meant():
    configuration = RunConfiguration.parse({"learning-rate": 1})
    assert configuration.learning_rate == 1.0
    assert type(configuration.learning_rate) is float


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("seed", 1.0, ["seed = 1.0", "a whole number", "float"]),
        ("seed", "1", ["seed = '1'", "a whole number", "str"]),
        ("seed", True, ["seed = True", "a whole number", "bool"]),
        ("learning-rate", "fast", ["learning-rate = 'fast'", "a number"]),
        ("learning-rate", True, ["learning-rate = True", "a number"]),
        ("model", 8, ["model = 8", "text"]),
        ("generation.iterations", [200], ["generation.iterations = [200]", "a whole number"]),
        ("seed", None, ["seed = None", "a whole number"]),
    ],
)
def test_wrong_type(key, value, expected):
    text = refusal({key: value})
    assert all(part in text for part in expected)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("seed", -1, "at least 0"),
        ("seed", 2**31, "at most"),
        ("num-clients", 0, "at least 1"),
        ("num-server-rounds", -1, "at least 0"),
        ("fraction-train", 0.0, "above 0"),
        ("fraction-train", 1.01, "at most 1"),
        ("learning-rate", 0.0, "above 0"),
        ("learning-rate", float("nan"), "finite"),
        ("learning-rate", float("inf"), "finite"),
        ("momentum", 1.0, "at most 0.999"),
        ("weight-decay", -1e-9, "at least 0"),
        ("dirichlet-alpha", -0.5, "above 0"),
        ("label-noise-rate", 1.5, "at most 1"),
        ("moon.temperature", 0.0, "above 0"),
        ("generation.images-per-client", 0, "at least 1"),
        ("distillation.temperature", -3.0, "above 0"),
        ("competition.batches", 0, "at least 1"),
        ("round-timeout", 0.0, "above 0"),
    ],
)
def test_out_of_range(key, value, expected):
    text = refusal({key: value})
    assert f"{key} = {value}" in text
    assert expected in text


@pytest.mark.parametrize(
    ("key", "value", "choices"),
    [
        ("partition", "diriclet", ["iid", "dirichlet", "dirichlet-balanced", "classes"]),
        ("local-loss", "mse", ["cross-entropy", "symmetric-cross-entropy"]),
        ("label-noise", "some", ["none", "symmetric", "pairflip"]),
        ("feature-noise-kind", "x", ["level", "space"]),
        ("device", "tpu", ["auto", "cpu", "cuda"]),
        ("label-counts", "all", ["uploaded", "uniform"]),
        ("generation.place", "moon", ["server", "client"]),
        ("generation.form", "new", ["corrected", "reference"]),
        ("competition.retrain", "never", ["once", "every"]),
        ("stages", "train,destil", list(STAGES)),
        ("augmentation", "mixup", ["auto", "none", "crop-flip"]),
    ],
)
def test_choices_are_listed(key, value, choices):
    text = refusal({key: value})
    assert key in text
    assert value.split(",")[-1] in text
    assert all(choice in text for choice in choices)


@pytest.mark.parametrize("key", ["strategy", "model", "dataset", "local-loss", "post-training"])
def test_an_unknown_member_is_answered_with_those_there_are(key):
    (info,) = [info for name, _, info in key_table() if name == key]
    name = info.family.ours[0]
    assert RunConfiguration.parse({key: name}).flat()[key] == name
    text = refusal({key: f"{name}e"})
    assert f"unknown {key} '{name}e'. Did you mean '{name}'?" in text
    assert all(name in text for name in (*info.family.ours, "module:name"))


def test_unknown_key_is_named_with_the_closest_one():
    text = refusal({"learning-rates": 0.1})
    assert "'learning-rates'" in text
    assert "Did you mean 'learning-rate'?" in text
    assert "unknown key 'generation.speed'" in refusal({"generation": {"speed": 1}})
    assert "unknown key 'local_epochs'" in refusal({"local_epochs": 1})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"min-successful-clients": 11}, ["min-successful-clients = 11", "only 10"]),
        (
            {"min-successful-clients": 6, "fraction-train": 0.5},
            ["min-successful-clients = 6", "only 5"],
        ),
        ({"label-noise": "symmetric"}, ["label-noise-rate"]),
        ({"stages": "generate"}, ["stages = 'generate'", "resume-from"]),
        ({"stages": ""}, ["stages is empty", *STAGES]),
        ({"stages": "train,distil"}, ["leaves out generate", "distil needs"]),
        ({"stages": "train,compete"}, ["leaves out generate, distil"]),
    ],
)
def test_settings_that_contradict_each_other(values, expected):
    text = refusal(values)
    assert all(part in text for part in expected)


def test_stages_are_in_their_order_whatever_order_they_are_written_in():
    configuration = RunConfiguration.parse({"stages": " generate , train,distil,"})
    assert configuration.stage_names == ("train", "generate", "distil")


@pytest.mark.parametrize(
    ("clients", "fraction", "asked", "required"),
    [(10, 1.0, 10, 5), (10, 0.01, 1, 1), (3, 0.5, 2, 1), (7, 1.0, 7, 4), (1, 1.0, 1, 1)],
)
def test_clients_per_round_and_default_minimum(clients, fraction, asked, required):
    configuration = RunConfiguration.parse({"num-clients": clients, "fraction-train": fraction})
    assert configuration.clients_per_round == asked
    assert configuration.required_replies == required


def test_minimum_that_was_set_is_the_minimum():
    assert RunConfiguration.parse({"min-successful-clients": 9}).required_replies == 9


def test_every_key_says_what_it_means_and_its_default_is_possible():
    for name, default, info in key_table():
        assert len(info.meaning) > 5, name
        assert info.binds in ("run", *STAGES, *methods()), name
        if info.choices and name != "stages":
            assert default in info.choices, name
        RunConfiguration.parse({name: default})


def test_the_originals_flags_all_have_a_key():
    covered = {info.original for _, _, info in key_table()}
    assert [flag for flag in ORIGINAL_FLAGS if flag not in covered] == []


def test_toml_files(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text('strategy = "moon"\n[moon]\nmu = 3\n', "utf-8")
    assert read_toml(path) == {"strategy": "moon", "moon.mu": 3}
    with pytest.raises(ConfigurationError, match=r"cannot read .*nowhere\.toml"):
        read_toml(tmp_path / "nowhere.toml")
    path.write_text("strategy = moon", "utf-8")
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        read_toml(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        read_toml(path)


@pytest.mark.parametrize("teacher", ["prior-corrected", "class-weighted", "masked"])
@pytest.mark.parametrize("kept", [{"label-counts": "uniform"}, {"generation.place": "client"}])
def test_a_teacher_that_needs_label_counts_is_refused_where_none_are_told(teacher, kept):
    with pytest.raises(ConfigurationError, match="label counts"):
        RunConfiguration.parse({"distillation.teacher": teacher, **kept})


def test_balanced_labels_are_refused_where_clients_keep_their_counts_to_themselves():
    with pytest.raises(ConfigurationError, match=r"generation\.labels.*principle"):
        RunConfiguration.parse({"generation.labels": "balanced", "generation.place": "client"})
    RunConfiguration.parse({"generation.labels": "balanced", "label-counts": "uniform"})
