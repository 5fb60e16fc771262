"""What a comparison consists of, from its arguments and files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fedf2dg.compare import Plan
from fedf2dg.compare.comparison import _default_directory
from fedf2dg.compare.plan import share
from foundation.settings.configuration import ConfigurationError, RunConfiguration, read_toml
from server_app import preflight

PRESETS = sorted((Path(__file__).parents[3] / "presets").glob("*.toml"))
ReadPlan = Callable[..., Plan]


def _names(plan: Plan) -> list[str]:
    return [method.name for method in plan.methods]


def test_lists_are_multiplied_out(plan: ReadPlan) -> None:
    made = plan("strategy=fedavg,scaffold", "dirichlet-alpha=0.1,1", "seed=3,4", "num-clients=5")
    assert _names(made) == [
        "fedavg dirichlet-alpha=0.1",
        "fedavg dirichlet-alpha=1.0",
        "scaffold dirichlet-alpha=0.1",
        "scaffold dirichlet-alpha=1.0",
    ]
    assert len(made.cells) == 8
    assert [cell.seed for cell in made.cells] == [3] * 4 + [4] * 4
    assert {cell.configuration.num_clients for cell in made.cells} == {5}
    assert made.varied() == ["strategy", "dirichlet-alpha"]


def test_ranges_include_both_ends(plan: ReadPlan) -> None:
    assert [cell.seed for cell in plan("seed=2..5").cells] == [2, 3, 4, 5]
    assert [cell.seed for cell in plan("seed=0,3..4,4").cells] == [0, 3, 4]
    assert [cell.seed for cell in plan(toml='seed = "0..2"').cells] == [0, 1, 2]


def test_values_with_commas_stay_whole(plan: ReadPlan) -> None:
    made = plan("stages=train,generate", "class-names=cat,dog")
    assert len(made.cells) == 1
    assert made.cells[0].configuration.stage_names == ("train", "generate")
    assert made.cells[0].configuration.classes == ("cat", "dog")


def test_a_plus_sign_joins_methods_where_a_comma_separates_values(plan: ReadPlan) -> None:
    made = plan("post-training=none,calibration+fedf2dg")
    assert _names(made) == ["post-training=none", "post-training=calibration+fedf2dg"]
    assert [cell.configuration.post_training for cell in made.cells] == [
        "none",
        "calibration,fedf2dg",
    ]


def test_variants_depart_from_the_base_and_arguments_change_the_base(plan: ReadPlan) -> None:
    text = """
        seed = [0, 1]
        generation.iterations = 100
        [plan]
        title = "Terms"
        baseline = "full"
        [variant.full]
        [variant.no-bn]
        "generation.bn-weight" = 0.0
        [variant.long.generation]
        iterations = 500
    """
    made = plan("generation.iterations=7", toml=text)
    assert _names(made) == ["full", "no-bn", "long"]
    assert made.title == "Terms"
    assert made.baselines == {"no-bn": "full", "long": "full"}
    settings = {cell.method.name: cell.configuration.generation for cell in made.cells}
    assert {name: s.iterations for name, s in settings.items()} == {
        "full": 7,
        "no-bn": 7,
        "long": 500,
    }
    assert {name: s.bn_weight for name, s in settings.items()} == {
        "full": 1.0,
        "no-bn": 0.0,
        "long": 1.0,
    }


def test_a_variant_may_hold_a_list(plan: ReadPlan) -> None:
    text = """
        [variant.T]
        distillation.temperature = [1.0, 3]
        [variant.soft]
    """
    assert _names(plan(toml=text)) == ["T temperature=1.0", "T temperature=3", "soft"]


def test_later_files_win(plan: ReadPlan) -> None:
    made = plan(toml=['seed = 1\ndataset = "digits"', "seed = 2"])
    assert [cell.seed for cell in made.cells] == [2]


@pytest.mark.parametrize("baseline", ["strategy=fedavg", ""])
def test_a_baseline_by_keys_leaves_the_other_keys_alone(plan: ReadPlan, baseline: str) -> None:
    made = plan("strategy=fedavg,scaffold,moon", "distillation.temperature=1,3", baseline=baseline)
    assert made.baselines == {
        f"{strategy} temperature={t}": f"fedavg temperature={t}"
        for strategy in ("scaffold", "moon")
        for t in (1.0, 3.0)
    }


def test_a_baseline_by_name_is_everyones(plan: ReadPlan) -> None:
    made = plan("strategy=fedavg,scaffold,moon", baseline="moon")
    assert made.baselines == {"fedavg": "moon", "scaffold": "moon"}


@pytest.mark.parametrize(
    ("arguments", "toml", "baseline", "message"),
    [
        (["strategy"], "", "", "not of the form KEY=VALUE"),
        (["strategy=fedavg,fedavgg"], "", "", "unknown strategy 'fedavgg'. Did you mean 'fedavg'"),
        (["sede=1,2"], "", "", "unknown key 'sede'. Did you mean 'seed'"),
        (["local-epochs=1,two"], "", "", "local-epochs = 'two' must be a whole number"),
        (["output-dir=a"], "", "", "output-dir cannot be set"),
        (["resume-from=a"], "", "", "resume-from cannot be set"),
        ([], "seed = []", "", "holds no value"),
        ([], "[plan]\nbasis = 1", "", "title, baseline and note only"),
        ([], "variant = 3", "", "variants are tables"),
        ([], "seed = ", "", "not valid TOML"),
        (["strategy=fedavg,moon"], "", "scaffold", "baseline 'scaffold' is none of the methods"),
        (["strategy=fedavg,moon"], "", "seed=1", "baseline 'seed=1' is none of the methods"),
    ],
)
def test_what_cannot_be_is_refused_before_any_run(
    plan: ReadPlan, arguments: list[str], toml: str, baseline: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message.replace("(", r"\(")):
        plan(*arguments, toml=toml, baseline=baseline)


def test_there_are_presets() -> None:
    assert {"ablation_digits", "reference_digits", "fedf2dg_cifar10", "reference_cifar10"} <= {
        preset.stem for preset in PRESETS
    }


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.stem)
def test_presets_are_plans_or_configurations(plan: ReadPlan, preset: Path) -> None:
    text = preset.read_text("utf-8")
    made = plan(toml=text)
    assert len({cell.configuration for cell in made.cells}) == len(made.cells)
    assert share(made.cells)
    if "[variant." not in text:
        assert preflight.parse(read_toml(preset)) == made.cells[0].configuration
    else:
        assert made.title
        # Variants of a plan must not be the baseline under another name.
        settings = [cell.configuration for cell in made.cells if cell.seed == 0]
        assert len(set(settings)) == len(made.methods)


def test_the_cifar_preset_is_the_original_script(plan: ReadPlan) -> None:
    preset = next(preset for preset in PRESETS if preset.stem == "fedf2dg_cifar10")
    chosen: RunConfiguration = plan(toml=preset.read_text("utf-8")).cells[0].configuration
    assert (chosen.dataset, chosen.model, chosen.num_clients) == ("cifar10", "resnet18", 10)
    assert (chosen.dirichlet_alpha, chosen.num_server_rounds, chosen.local_epochs) == (0.05, 80, 5)
    assert (chosen.batch_size, chosen.learning_rate, chosen.momentum) == (64, 0.01, 0.9)
    assert chosen.weight_decay == 1e-5
    generation, competition = chosen.generation, chosen.competition
    assert (generation.images_per_client, generation.batches) == (256, 10)
    assert (generation.iterations, generation.form) == (2000, "corrected")
    assert (chosen.distillation.epochs, chosen.distillation.learning_rate) == (30, 0.01)
    assert (competition.rounds, competition.batches) == (10, 1)


def test_tables_with_other_settings_go_elsewhere_and_more_of_the_same_do_not(
    plan: ReadPlan,
) -> None:
    def directory(*arguments: str) -> Path:
        return _default_directory([], plan(*arguments))

    plain = directory("strategy=fedavg,moon", "seed=0")
    assert plain == Path("outputs/compare-strategy-digits")
    assert directory("strategy=fedavg,moon,scaffold", "seed=0..4") == plain
    longer = directory("strategy=fedavg,moon", "num-server-rounds=9")
    assert longer != plain and str(longer).startswith(f"{plain}-")
    assert directory("strategy=fedavg,scaffold", "seed=7", "num-server-rounds=9") == longer
    assert directory("strategy=fedavg,moon", "num-server-rounds=8") != longer
