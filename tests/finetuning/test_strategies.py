"""What each strategy changes, parameter by parameter, on every kind of encoder; rates and order by closed forms."""

import copy
from itertools import pairwise, product
from pathlib import Path
from typing import get_args

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medtl.config import build
from medtl.data.dataset import Dataset
from medtl.encoders.depth import stages_of
from medtl.encoders.store import start_from
from medtl.encoders.table import TABLE, build_encoder
from medtl.errors import ConfigError
from medtl.finetuning.adapters import Adapter, add_adapters, merge_adapters
from medtl.finetuning.config import FinetuneConfig, filled_in, usual_start
from medtl.finetuning.fit import fit
from medtl.finetuning.parts import split_labeled
from medtl.finetuning.strategies import RULES, STRATEGIES, Kind, candidates, find_strategy
from medtl.finetuning.trainable import joined, layer_rates, prepare, unfreezing
from medtl.inference.bundle import Classifier
from medtl.inference.runtime import logits_of_rows

KINDS = ["resnet10-half", "densenet121", "efficientnet-lite0", "efficientnet-b0", "vit-tiny"]
GRADIENTS = [name for name, row in STRATEGIES.items() if row.trains != "head"]


def classifier_of(name: str, dims: int = 2) -> Classifier:
    torch.manual_seed(0)
    side = TABLE[name].least_px(dims)
    classifier = Classifier(build_encoder(name, input_px=side, dims=dims), 1).train()
    momenta = {norm: norm.momentum for norm in classifier.modules() if isinstance(norm, _BatchNorm)}
    for norm in momenta:
        norm.momentum = 1.0
    with torch.no_grad():
        classifier(scans(classifier))  # statistics of real activations, as a start that has learned has them
    for norm, momentum in momenta.items():
        norm.momentum = momentum
    return classifier


def scans(classifier: Classifier, n: int = 4) -> Tensor:
    encoder = classifier.encoder
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 1, *[encoder.input_px] * encoder.dims, generator=generator)


def one_step(classifier: Classifier, groups: list[dict[str, object]], *, weight_decay: float = 0.0) -> set[str]:
    """The names of the parameters that a step changes."""
    classifier.train()
    before = {name: value.detach().clone() for name, value in classifier.named_parameters()}
    optimizer = torch.optim.AdamW(groups, weight_decay=weight_decay)
    (classifier(scans(classifier)) - 1).square().mean().backward()
    optimizer.step()
    return {name for name, value in classifier.named_parameters() if not torch.equal(value, before[name])}


def norms(classifier: Classifier) -> set[str]:
    """By their types' names, which is not how the code finds them."""
    return {
        f"{name}.{own}"
        for name, module in classifier.named_modules()
        if "Norm" in type(module).__name__
        for own, _ in module.named_parameters(recurse=False)
    }


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("strategy", GRADIENTS)
def test_a_step_changes_what_the_strategy_says(strategy: str, name: str) -> None:
    classifier = classifier_of(name)
    original = {key for key, _ in classifier.named_parameters()}
    expected = {
        "norm-bias": norms(classifier) | {"head.weight"} | {key for key in original if key.endswith("bias")},
        "adapters": norms(classifier) | {"head.weight", "head.bias"},
    }.get(strategy, original)
    statistics = {key: value.clone() for key, value in classifier.named_buffers() if "running" in key}
    row = STRATEGIES[strategy]
    groups = prepare(classifier, row, lr=1e-3)
    unfreezing(classifier, row)  # gradual: nothing joins yet, as before the first step
    if row.gradual:
        expected = {"head.weight", "head.bias"}
    changed = one_step(classifier, groups)
    added = {key for key in changed if key.endswith((".down", ".up"))}
    assert changed - added == expected
    assert bool(added) == (strategy == "adapters")
    assert all(key.endswith(".up") for key in added), "of B A with B zero only B has a gradient at first"
    moved = any(
        not torch.equal(value, statistics[key]) for key, value in classifier.named_buffers() if "running" in key
    )
    assert moved == (not row.head_first and bool(statistics)), "head first keeps the normalisation statistics"


@pytest.mark.parametrize("n_stages", [1, 5, 18])
def test_layer_rates_lie_on_a_geometric_row(n_stages: int) -> None:
    rates = [*layer_rates(n_stages, lowest=0.05), 1.0]
    assert rates[0] == pytest.approx(0.05)
    assert [b / a for a, b in pairwise(rates)] == pytest.approx([20 ** (1 / n_stages)] * n_stages)


def test_llrd_gives_each_stage_its_rate() -> None:
    classifier = classifier_of("resnet10-half")
    stages = stages_of(classifier.encoder)
    groups = prepare(classifier, STRATEGIES["llrd"], lr=2e-3)
    rate_of = {id(p): group["lr"] for group in groups for p in group["params"]}
    for i, stage in enumerate(stages):
        rates = [rate_of[id(p)] for p in stage.parameters]
        assert rates == pytest.approx([2e-3 * 0.05 ** ((5 - i) / 5)] * len(rates))
    assert {rate_of[id(p)] for p in classifier.head.parameters()} == {2e-3}


@pytest.mark.parametrize("name", KINDS)
def test_stages_join_from_the_last_to_the_first(name: str) -> None:
    classifier = classifier_of(name)
    row = STRATEGIES["gradual"]
    prepare(classifier, row, lr=1e-3)
    join = unfreezing(classifier, row)
    stages = stages_of(classifier.encoder)
    order: list[int] = []
    for step in range(101):
        join(step / 100)
        free = [all(p.requires_grad for p in stage.parameters) for stage in stages]
        none = [not any(p.requires_grad for p in stage.parameters) for stage in stages]
        assert free == sorted(free) and none == [not each for each in free]
        order.append(sum(free))
    assert order[0] == 1 and order[50] == len(stages) and order[49] < len(stages)
    assert {b - a for a, b in pairwise(order)} == {0, 1}


def test_joined_at_even_distances() -> None:
    assert [joined(5, share) for share in (0, 0.124, 0.125, 0.25, 0.375, 0.5, 1)] == [1, 1, 2, 3, 4, 5, 5]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", KINDS)
def test_adapters_start_as_identity_and_merge(name: str, dims: int) -> None:
    if dims == 3 and name not in ("resnet10-half", "vit-tiny", "efficientnet-lite0"):
        pytest.skip("the same layers, but slow to compute in volumes")
    classifier = classifier_of(name, dims).eval()
    keys, x = set(classifier.state_dict()), scans(classifier, 2)
    with torch.no_grad():
        before = classifier(x)
        weights = {key: value.clone() for key, value in classifier.named_parameters()}
        add_adapters(classifier.encoder)
        for key, module in classifier.named_modules():
            if f"{key}.weight" in weights:
                assert torch.equal(module.weight, weights[f"{key}.weight"]), "to the last bit"
        # Kernels are chosen by the memory layout of 1 x 1 weights, and the last digit of the output by the kernel.
        torch.testing.assert_close(classifier(x), before, rtol=1e-5, atol=1e-5)
        for module in classifier.modules():
            if isinstance(module, Adapter):
                module.up.normal_(std=0.02)
        averaged = copy.deepcopy(classifier)  # as the average of weights is made
        learned = classifier(x)
        assert not torch.allclose(learned, before, rtol=1e-3)
        merge_adapters(classifier.encoder)
        merge_adapters(averaged.encoder)
        assert set(classifier.state_dict()) == keys, "a plain network for the bundle"
        torch.testing.assert_close(classifier(x), learned, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(averaged(x), learned, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("side", "groups"), [(1, 1), (3, 1), (5, 1), (3, 4)])
def test_an_adapter_is_a_convolution_of_one_place_beside(side: int, groups: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, side, padding=side // 2, stride=2, groups=groups)
    x = torch.randn(2, 4, 9, 9)
    plain = conv(x)
    net = nn.Sequential(conv)
    add_adapters(net)
    adapters = [module for module in net.modules() if isinstance(module, Adapter)]
    if groups > 1:
        assert not adapters, "a convolution that mixes no channels keeps its weight"
        return
    nn.init.normal_(adapters[0].up)
    beside = torch.einsum("or,ri,bihw->bohw", adapters[0].up, adapters[0].down, x[:, :, ::2, ::2])
    torch.testing.assert_close(net(x), plain + beside, rtol=1e-4, atol=1e-5)


def test_rules_name_strategies_and_cover_every_number_of_labels() -> None:
    for start, dims, n_labels in product(get_args(Kind), (2, 3), (1, 20, 200, 201, 100_000)):
        names = candidates("auto", start=start, dims=dims, n_labels=n_labels)
        assert names and all(find_strategy(name, pretrained=start != "random") for name in names)
    assert {name for rule in RULES for name in rule.candidates} <= set(STRATEGIES)
    assert candidates("llrd", start="scans", dims=2, n_labels=20) == ("llrd",)
    for start in ("elsewhere", "scans"):
        assert candidates("auto", start=start, dims=3, n_labels=100) == ("linear",), "more loses, and takes minutes"
        assert "lp-ft" in candidates("auto", start=start, dims=3, n_labels=101)


def test_unknown_strategy_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown strategy 'lpft'; did you mean 'lp-ft'"):
        candidates("lpft", start="scans", dims=2, n_labels=20)


@pytest.mark.parametrize(
    ("settings", "dims", "n_labels", "start"),
    [
        ({}, 2, 5000, "imagenet"),
        ({}, 3, 100, "imagenet"),
        ({}, 3, 101, "random"),
        ({"strategy": "linear"}, 3, 101, "imagenet"),
        ({"strategy": "lp-ft"}, 3, 20, "imagenet"),
        ({"strategy": "full"}, 3, 101, "random"),
        ({"strategy": "full"}, 2, 101, "imagenet"),
        ({"semi": "fixmatch"}, 3, 20, "random"),
        ({"strategy": "linear", "network": "resnet10-half"}, 3, 101, "random"),
    ],
)
def test_a_strategy_that_keeps_what_was_learned_starts_from_imagenet(
    settings: dict[str, str], dims: int, n_labels: int, start: str
) -> None:
    assert usual_start(build(FinetuneConfig, settings), dims=dims, n_labels=n_labels) == start


@pytest.mark.parametrize("name", ["lp-ft", "wise-ft", "llrd", "gradual", "norm-bias", "adapters"])
def test_random_weights_have_nothing_to_keep(name: str) -> None:
    with pytest.raises(
        ConfigError, match=f"'{name}' keeps what an encoder has learned, and random weights have learned"
    ):
        candidates(name, start="random", dims=2, n_labels=20)


def test_random_weights_get_as_many_tries_as_others() -> None:
    for dims, n_labels in product((2, 3), (20, 100, 101, 5000)):
        random = candidates("auto", start="random", dims=dims, n_labels=n_labels)
        assert set(random) == {"linear", "full"}
        assert random[0] == ("linear" if dims == 2 and n_labels <= 100 else "full")
        for start in ("elsewhere", "scans"):
            assert len(random) >= len(candidates("auto", start=start, dims=dims, n_labels=n_labels))


def test_a_head_on_random_features_leaves_them_as_they_are(dataset: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    start = start_from("random", spec=dataset.spec, network="resnet10-half", input_px=16)
    before = {key: value.clone() for key, value in start.encoder.state_dict().items()}
    plan = FinetuneConfig(strategy="linear")
    labels = dataset.labels()
    parts = split_labeled(dataset, labels)
    plan = plan.model_copy(update=filled_in(plan, start, len(parts.fit)))
    classifier, said = fit(dataset, labels, parts, start, plan, tmp_path, resume=False)
    assert said["steps"] == 0
    for key, value in classifier.encoder.state_dict().items():
        assert torch.equal(value, before[key]), key
    y = labels.values[parts.fit, 0]
    logits = logits_of_rows(classifier, dataset, parts.fit, start.spec, flip_average=False)[:, 0].numpy()
    assert roc_auc_score(y, logits) > 0.8
