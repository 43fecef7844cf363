"""FID's Inception from a user's file: the published network, its own weights only, and its use in torchmetrics."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from efface.core.errors import EffaceError
from efface.detectors.inception import POOLS, Inception
from efface.detectors.inception_features import InceptionFeatures


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Random weights under which features neither vanish nor grow."""
    torch.manual_seed(0)
    net = Inception()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    state = {name: tensor for name, tensor in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    path = tmp_path_factory.mktemp("weights") / "inception.safetensors"
    save_file({**state, "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}, path)
    return path


@pytest.fixture(scope="module")
def features(weights) -> InceptionFeatures:
    return InceptionFeatures(weights)


def test_the_network_has_the_published_layers(features):
    assert sum(p.numel() for p in features.net.parameters()) == 21_785_568
    names = features.net.state_dict()
    shapes = {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Conv2d_4a_3x3.bn.running_var": (192,),
        "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
        "Mixed_6b.branch7x7_2.conv.weight": (128, 128, 1, 7),
        "Mixed_6e.branch7x7dbl_2.conv.weight": (192, 192, 7, 1),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
    }
    assert {name: tuple(names[name].shape) for name in shapes} == shapes
    assert all(module.eps == 0.001 for module in features.net.modules() if isinstance(module, nn.BatchNorm2d))
    ones = torch.ones(1, 1, 5, 5)
    assert torch.equal(POOLS["average"](ones), ones), "average pooling ignores the padding"
    pools = {name: block.chains[-1][0] for name, block in features.net.named_children() if name.startswith("Mixed")}
    assert [name for name, pool in pools.items() if pool == ["maximum"]] == ["Mixed_7c"]
    assert [name for name, pool in pools.items() if pool == ["halve"]] == ["Mixed_6a", "Mixed_7a"]
    sizes = []
    for block in (features.net.Conv2d_4a_3x3, features.net.Mixed_5d, features.net.Mixed_6e, features.net.Mixed_7c):
        block.register_forward_hook(lambda _, __, out: sizes.append(tuple(out.shape[1:])))
    features(torch.rand(1, 3, 32, 32))
    assert sizes == [(192, 71, 71), (288, 35, 35), (768, 17, 17), (2048, 8, 8)]


def test_features_depend_on_the_file_and_the_image_only(features, weights):
    images = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    result = features(images)
    assert result.shape == (2, 2048)
    assert result.std() > 1e-3
    assert torch.equal(result, InceptionFeatures(weights)(images)), "the same file, the same features"
    torch.testing.assert_close(features(images[1:2]), result[1:2], atol=1e-4, rtol=1e-4)
    assert features(images[:0]).shape == (0, 2048)
    assert features.detector.id == "inception-v3-fid"
    assert features.detector.version.startswith("bicubic+")
    inputs = []
    hook = features.net.Conv2d_1a_3x3.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    features(torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)]))
    hook.remove()
    assert (float(inputs[0].min()), float(inputs[0].max()), inputs[0].shape[-1]) == (-1.0, 127 / 128, 299)


@pytest.mark.slow
def test_torchmetrics_accepts_the_features(features):
    """Compares the sums that its FID is computed from; tests/metrics compares the formula."""
    metric = FrechetInceptionDistance(feature=features, normalize=True)
    images = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(2))
    metric.update(images, real=True)
    torch.testing.assert_close(metric.real_features_sum, features(images).double().sum(0))


def test_files_without_these_weights_are_refused(weights, tmp_path):
    state, path = load_file(weights), tmp_path / "w.safetensors"
    for name, tensors, message in (
        (
            "lacking",
            {k: t for k, t in state.items() if k != "Mixed_6c.branch_pool.bn.weight"},
            "such as Mixed_6c.branch_pool.bn.weight",
        ),
        (
            "other",
            {**state, "Conv2d_1a_3x3.conv.weight": torch.zeros(32, 1, 3, 3)},
            "1 tensors are missing or of another shape",
        ),
        (
            "torchvision",
            {**state, "fc.weight": torch.zeros(1000, 2048)},
            "has 1000 classes: these are other weights than FID's",
        ),
    ):
        save_file(tensors, path)
        with pytest.raises(EffaceError, match=message) as caught:
            InceptionFeatures(path)
        assert "\n" not in str(caught.value), name
    path.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(EffaceError, match="cannot be read as safetensors"):
        InceptionFeatures(path)
    with pytest.raises(EffaceError, match="cannot be read as safetensors"):
        InceptionFeatures(tmp_path / "none.safetensors")
    pickle = tmp_path / "pt_inception-2015-12-05.pth"
    pickle.write_bytes(b"\x80\x04not even opened")
    with pytest.raises(
        EffaceError, match=r"convert it once with python -c .*pt_inception-2015-12-05\.pth.*weights_only=True"
    ):
        InceptionFeatures(pickle)


def test_the_conversion_command_in_the_message_works(weights, tmp_path, monkeypatch):
    """Runs the command's code on a pickle of the same tensors."""
    torch.save(load_file(weights), tmp_path / "w.pth")
    with pytest.raises(EffaceError) as caught:
        InceptionFeatures(tmp_path / "w.pth")
    monkeypatch.chdir(tmp_path)
    exec(str(caught.value).partition('-c "')[2].rpartition('"')[0])
    assert InceptionFeatures(tmp_path / "inception.safetensors").detector.version.startswith("bicubic+")
