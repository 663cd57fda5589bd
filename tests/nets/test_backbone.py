import pytest
import torch
from safetensors.torch import save_file

from stolon import learners, nets
from stolon.errors import BackboneError, BackboneUnavailableError, DataError, SettingError
from stolon.nets import backbone as backbone_module
from stolon.nets.backbone import Backbone, parse_spec, pretrained
from stolon.nets.preprocessing import Preprocessing
from stolon.tasks import Split, Task

SPEC = "digits-conv?shape=1x8x8"


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(nets.make("digits-conv", input_shape=(1, 8, 8)).state_dict(), path)
    return path


def test_a_backbone_is_frozen_and_in_evaluation_mode(weights):
    backbone = pretrained(SPEC, weights)
    assert not backbone.module.training
    assert not any(p.requires_grad for p in backbone.module.parameters())
    x = torch.rand(3, 1, 8, 8)
    assert backbone.features(x).shape == (3, 128)


def test_the_fingerprint_is_over_weights_and_preprocessing_and_name(weights):
    first = pretrained(SPEC, weights)
    assert first.fingerprint == pretrained(SPEC, weights).fingerprint
    changed = nets.make("digits-conv", input_shape=(1, 8, 8))
    changed.load_state_dict(first.module.state_dict())
    with torch.no_grad():
        next(changed.parameters())[0, 0, 0, 0] += 1e-6
    others = [
        Backbone(changed, first.preprocessing, SPEC),
        Backbone(first.module, Preprocessing(channels=1, size=8, mean=(0.1,)), SPEC),
        Backbone(first.module, first.preprocessing, "other"),
    ]
    assert len({first.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_feature_maps_are_averaged():
    backbone = Backbone(torch.nn.Conv2d(3, 5, 1), None, "conv")
    x = torch.rand(2, 3, 4, 4)
    assert torch.allclose(backbone.features(x), backbone.module(x).mean((2, 3)))


def test_wrong_weights_are_refused_by_name(tmp_path, weights):
    with pytest.raises(BackboneUnavailableError, match="no such file"):
        pretrained(SPEC, tmp_path / "none")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(BackboneError, match="no safetensors file"):
        pretrained(SPEC, tmp_path / "text")
    with pytest.raises(BackboneError, match="found \\[32, 1, 3, 3\\]"):
        pretrained("digits-conv?shape=3x8x8", weights)
    with pytest.raises(BackboneError, match="missing"):
        pretrained("mlp-10?shape=1x8x8", weights)
    with pytest.raises(BackboneUnavailableError, match="--weights"):
        pretrained(SPEC)
    bad = nets.make("digits-conv", input_shape=(1, 8, 8)).state_dict()
    bad["0.0.bias"][0] = float("nan")
    with pytest.raises(BackboneError, match="finite"):
        pretrained(SPEC, bad)


def test_unknown_options_are_refused(weights):
    with pytest.raises(SettingError, match="unknown option 'colour'"):
        pretrained(SPEC + "&colour=red", weights)
    with pytest.raises(SettingError, match="NAME\\?key=value"):
        parse_spec("a?b")
    with pytest.raises(SettingError, match="no model 'nope'"):
        pretrained("timm:nope")
    with pytest.raises(SettingError, match="does not take these options"):
        pretrained("timm:resnet18?nope=1", weights)


def without_download(monkeypatch):
    """Make timm's models with random weights where their own would be downloaded."""
    real = backbone_module.timm_model
    monkeypatch.setattr(
        backbone_module, "timm_model", lambda name, **given: real(name, **{**given, "pretrained": False})
    )


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("timm:resnet18?size=abc", "size: expected a whole number, found 'abc'"),
        ("digits-conv?shape=axb", "shape: expected a whole number"),
        ("timm:resnet18?output_stride=7", "does not take these options"),
        ("timm:vit_tiny_patch16_224?size=96", "img_size=N beside size=N"),
        ("nonsense", "unknown net 'nonsense'"),
    ],
)
def test_what_a_model_does_not_take_is_refused_before_a_store_is_made(spec, words, monkeypatch):
    real = backbone_module.timm_model
    monkeypatch.setattr(
        backbone_module, "timm_model", lambda name, **given: real(name, **{**given, "pretrained": False})
    )
    with pytest.raises(SettingError, match=words):
        pretrained(spec)


def test_numeric_options_reach_the_model(monkeypatch):
    real = backbone_module.timm_model
    monkeypatch.setattr(
        backbone_module, "timm_model", lambda name, **given: real(name, **{**given, "pretrained": False})
    )
    backbone = pretrained("timm:vit_tiny_patch16_224?size=32&img_size=32")
    assert backbone.features(torch.zeros(1, 3, 32, 32)).shape == (1, 192)


def test_its_giver_cannot_change_it_any_more():
    module = nets.make("digits-conv", input_shape=(1, 8, 8))
    backbone = Backbone(module, None, "mine")
    x = torch.rand(2, 1, 8, 8)
    before = backbone.features(x)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert torch.equal(before, backbone.features(x))


@pytest.mark.parametrize("module", [torch.nn.Flatten(2), torch.nn.LSTM(8, 4, batch_first=True)])
def test_what_gives_no_features_is_refused(module):
    with pytest.raises(BackboneError, match="expected features"):
        Backbone(module, None, "other").features(torch.rand(2, 3, 8))


def test_volumes_and_shared_weights_are_taken(tmp_path):
    assert Backbone(
        torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.Flatten()), None, "volumes"
    ).features(torch.rand(1, 1, 3, 3, 3)).shape == (1, 2)
    shared = torch.nn.Linear(6, 6)
    learner = learners.make(
        "lightweight",
        net=torch.nn.Sequential(shared, torch.nn.ReLU(), shared),
        biases="all",
        bias_epochs=1,
        epochs=1,
    )
    split = Split.of(torch.rand(8, 6), torch.arange(8) % 2)
    list(learner.learn(Task("t", ("a", "b"), split, split, split)))
    tuned = learners.make("finetune", net=torch.nn.Sequential(shared, torch.nn.ReLU(), shared), epochs=1)
    list(tuned.learn(Task("t", ("a", "b"), split, split, split)))
    tuned.save(tmp_path)


def test_grey_images_are_widened_and_resized():
    prepare = Preprocessing(channels=3, size=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    y = prepare(torch.full((2, 1, 8, 8), 255, dtype=torch.uint8))
    assert y.shape == (2, 3, 16, 16)
    assert torch.allclose(y, torch.ones_like(y))


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(2, 8),
        torch.full((1, 3, 4, 4), 2.0),
        torch.full((1, 3, 4, 4), -0.5),
        torch.zeros(1, 2, 4, 4),
    ],
)
def test_inputs_that_are_no_images_are_refused(x):
    with pytest.raises(DataError, match="expected images"):
        Preprocessing(channels=3)(x)


@pytest.mark.real_data
def test_the_real_backbone_knows_its_classifier_aside(shared_data):
    backbone = pretrained(
        "timm:mobilenetv2_100?pad_type=same&size=96",
        shared_data / "backbones" / "mobilenetv2_100.safetensors",
    )
    assert backbone.features(torch.zeros(1, 3, 20, 20, dtype=torch.uint8)).shape == (1, 1280)
    assert backbone.preprocessing is not None
    assert backbone.preprocessing.size == 96
