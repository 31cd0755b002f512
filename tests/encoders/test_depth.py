"""The order of an encoder's parts, against what a change of weights reaches and by name."""

import pytest
import torch
from torch import nn

from medtl.encoders.depth import stages_of
from medtl.encoders.table import TABLE, build_encoder

EXPECTED = {
    "resnet18-half": ["conv1", "layer1", "layer2", "layer3", "layer4"],
    "densenet121": [
        "features.conv0", "features.denseblock1", "features.transition1", "features.denseblock2",
        "features.transition2", "features.denseblock3", "features.transition3", "features.denseblock4",
        "features.norm5",
    ],
    "efficientnet-lite0": ["_conv_stem", *(f"_blocks.{i}" for i in range(16)), "_conv_head"],
    "efficientnet-b0": ["_conv_stem", *(f"_blocks.{i}" for i in range(7)), "_conv_head"],
    "vit-tiny": ["patches", *(f"blocks.{i}" for i in range(6)), "norm"],
}  # fmt: skip


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", TABLE)
def test_every_parameter_is_in_one_stage(name: str, dims: int) -> None:
    encoder = build_encoder(name, input_px=TABLE[name].least_px(dims), dims=dims)
    stages = stages_of(encoder)
    found = [id(parameter) for stage in stages for parameter in stage.parameters]
    assert sorted(found) == sorted(map(id, encoder.parameters()))
    assert [stage.name for stage in stages] == EXPECTED.get(name, EXPECTED["resnet18-half"])


@pytest.mark.parametrize("name", EXPECTED)
def test_a_stage_changes_what_comes_after_it_and_nothing_before(name: str) -> None:
    """The oracle: weights of a stage are spoiled, and the first module whose output changes is in that stage."""
    encoder = build_encoder(name, input_px=TABLE[name].smallest_px).eval()
    stages = stages_of(encoder)
    scan = torch.randn(1, 1, encoder.input_px, encoder.input_px, generator=torch.Generator().manual_seed(0))

    def outputs() -> list[torch.Tensor]:
        seen = dict[nn.Module, torch.Tensor]()
        modules = [module for stage in stages for module in stage.modules]
        hooks = [m.register_forward_hook(lambda m, _, out: seen.update({m: out.clone()})) for m in modules]
        with torch.no_grad():
            encoder(scan)
        for hook in hooks:
            hook.remove()
        return [seen[stage.modules[-1]] for stage in stages]

    for i in range(len(stages)):
        before = outputs()
        with torch.no_grad():
            for parameter in stages[i].parameters:
                parameter.mul_(1.01)  # biases of zero stay; each stage has weights too
        unchanged = [torch.equal(a, b) for a, b in zip(before, outputs(), strict=True)]
        assert all(unchanged[:i]) and not unchanged[i], stages[i].name


def test_looking_changes_nothing() -> None:
    encoder = build_encoder("resnet10-half", input_px=16).train()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    stages_of(encoder)
    assert encoder.training
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
