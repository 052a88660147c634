"""Trials and the grids they come from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from thfr.errors import InputError
from thfr.methods.thfr.config import THFRConfig, THFRModelConfig, THFRTrainingConfig
from thfr.study import grids
from thfr.study.presets import changed, load_preset
from thfr.study.trials import Evaluation, Trial, read_trial, trial_path, write_trial

CONFIG = THFRConfig()
CATEGORY = grids.Category("mvtec_ad", "bottle", {"train": {"images": {"good": 4}}}, CONFIG)


def test_values_are_yaml() -> None:
    texts = ["model.size=64,128", "training.betas=[0.5,0.9],[0.9,0.99]", "model.bottleneck_channels=null,32"]
    assert grids.parse_values(texts) == {
        "model.size": [64, 128],
        "training.betas": [[0.5, 0.9], [0.9, 0.99]],
        "model.bottleneck_channels": [None, 32],
    }


def test_a_grid_is_the_product_with_values_as_the_configuration_has_them() -> None:
    settings = grids.grid(
        CONFIG, grids.parse_values(["training.learning_rate=1e-3,2e-3", "model.size=64,96"])
    )
    assert [setting for setting, _ in settings] == [
        {"training.learning_rate": rate, "model.size": size} for rate in (1e-3, 2e-3) for size in (64, 96)
    ]
    for setting, config in settings:
        assert config.training.learning_rate == setting["training.learning_rate"]
        assert config.model.size == (setting["model.size"],) * 2
        assert config.differences(CONFIG)


def test_cells_have_the_control_where_there_are_templates() -> None:
    trials = grids.make_trials(CATEGORY, grids.grid(CONFIG, {"model.variant": ["thfr", "gl"]}), [0, 5], None)
    assert [(trial.config.model.variant, trial.seed) for trial in trials] == [
        ("thfr", 0), ("gl", 0), ("thfr", 5), ("gl", 5)
    ]  # fmt: skip
    assert trials[0].evaluations == (Evaluation(), Evaluation(templates="random"))
    assert trials[1].evaluations == (Evaluation(),)


def test_the_structures_are_different_networks() -> None:
    settings = grids.structure(CONFIG)
    assert len({config.model.model_dump_json() for _, config in settings}) == len(settings) == 10
    assert [setting["structure"] for setting, _ in settings][:4] == ["gbn", "lbn", "gl", "thfr"]
    first, config = settings[3]
    assert first == {"structure": "thfr"}
    assert config == CONFIG


def test_templates_need_a_whole_bank() -> None:
    for values in ({"variant": "gl"}, {"bank_ratio": 0.5}):
        with pytest.raises(InputError, match=r"^ablate: templates"):
            grids.templates(changed(CONFIG, {"model": values}, "test"))


def test_a_trial_s_name_tells_it_apart() -> None:
    trial = grids.make_trials(CATEGORY, [({"model.size": 256}, CONFIG)], [0], None)[0]
    others = [
        replace(trial, category="cable"),
        replace(trial, config=changed(CONFIG, {"training": {"epochs": 9}}, "test")),
        replace(trial, evaluations=(Evaluation(),)),
        replace(trial, data={"train": {"images": {"good": 5}}}),
        replace(trial, weights_file="0" * 64),
    ]
    names = [one.name for one in (trial, *others)]
    assert len(set(names)) == len(names)
    assert names[0].startswith("bottle-model.size=256-seed=0-")
    assert Trial.from_definition(trial.definition()) == trial


def test_a_trial_comes_back_from_its_file(tmp_path: Path) -> None:
    trial = grids.make_trials(CATEGORY, [({}, CONFIG)], [0], None)[0]
    path = trial_path(tmp_path, trial)
    write_trial(path, trial, {"seconds": 1.5})
    assert read_trial(path)["seconds"] == 1.5
    path.write_text("{")
    with pytest.raises(InputError, match="remove it to repeat it"):
        read_trial(path)
    path.write_text("{}")
    with pytest.raises(InputError, match="is no trial"):
        read_trial(path)


def test_the_preset_pins_every_field_and_is_the_method_as_shipped() -> None:
    import thfr.study
    import yaml

    text = (Path(thfr.study.__file__).parent / "presets" / "pinned.yaml").read_text()
    default = yaml.safe_load(text)["default"]
    assert set(default["model"]) == set(THFRModelConfig.model_fields)
    assert set(default["training"]) == set(THFRTrainingConfig.model_fields) - {"seed"}
    preset = load_preset("mvtec_ad")
    assert preset.seeds == (0, 1, 2)
    differing = preset.default.differences(THFRConfig())
    assert [line.split()[0] for line in differing] == ["model.bottleneck_channels"]
    assert preset.default.model.bottleneck_width == THFRConfig().model.bottleneck_width


def test_a_category_may_differ() -> None:
    preset = replace(load_preset("mvtec_ad"), categories={"tile": {"training": {"epochs": 11}}})
    assert preset.config("tile").training.epochs == 11
    assert preset.config("wood") == preset.default
    with pytest.raises(InputError, match=r"options: expected the sections model and training, got 'size'"):
        changed(CONFIG, {"size": 64}, "options")
