"""MoCo: the loss against eq. 1, the queue and the key network against their closed forms, and that it learns."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medtl.pretraining.objectives.moco import EMPTY, MoCo, MoCoConfig, info_nce, lack_of_spread
from tests.pretraining.tiny import tiny_encoder, views_of
from tests.pretraining.toy import learned

SMALL = MoCoConfig(projection_dim=8, queue_size=20)


def unit(*shape: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def slow_info_nce(
    query: Tensor, key: Tensor, group: list[int], queue: Tensor, queue_group: list[int], temperature: float
) -> float:
    """He 2020, eq. 1, term by term in float64, over the keys that count as negatives."""
    q, k, old = query.double(), key.double(), queue.double()
    total = 0.0
    for i in range(len(q)):
        top = math.exp(float(q[i] @ k[i]) / temperature)
        below = top
        below += sum(math.exp(float(q[i] @ k[j]) / temperature) for j in range(len(k)) if group[j] != group[i])
        below += sum(math.exp(float(q[i] @ old[j]) / temperature) for j in range(len(old))
                     if queue_group[j] not in (group[i], EMPTY))  # fmt: skip
        total -= math.log(top / below)
    return total / len(q)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(1, 6), kept=st.integers(0, 9), groups=st.integers(1, 12))
def test_equals_the_definition_with_members_of_one_group_left_out(seed: int, n: int, kept: int, groups: int) -> None:
    g = torch.Generator().manual_seed(seed)
    group = torch.randint(groups, (n,), generator=g)
    queue_group = torch.randint(EMPTY, groups, (kept,), generator=g)
    query, key, queue = unit(n, 5, seed=seed), unit(n, 5, seed=seed + 1), unit(kept, 5, seed=seed + 2)
    found = info_nce(query, key, temperature=0.2, group=group, queue=queue, queue_group=queue_group)
    expected = slow_info_nce(query, key, group.tolist(), queue, queue_group.tolist(), 0.2)
    assert float(found) == pytest.approx(expected, rel=1e-4, abs=1e-6)  # float32 against float64


def test_the_guard_holds_in_the_queue() -> None:
    """A batch of one patient meets its own older keys: nothing is a negative, the loss is zero."""
    torch.manual_seed(0)
    objective = MoCo(tiny_encoder(), SMALL.model_copy(update={"variance_weight": 0.0}))
    views, same = torch.randn(6, 2, 1, 4, 4), torch.full((6,), 3)
    for _ in range(2):
        loss, _ = objective(views_of(views, group=same))
        assert float(loss) == 0
        objective.after_step(0.1)
    loss, _ = objective(views_of(views, group=same + 1))
    assert float(loss) > math.log(12) / 2, "those of another patient are"


def test_does_not_depend_on_order_or_rotation() -> None:
    query, key, queue = unit(6, 4, seed=0), unit(6, 4, seed=1), unit(9, 4, seed=2)
    about = {"group": torch.arange(6), "queue_group": torch.arange(9) + 3, "temperature": 0.2}
    loss = info_nce(query, key, queue=queue, **about)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(3)))
    torch.testing.assert_close(info_nce(query @ rotation, key @ rotation, queue=queue @ rotation, **about), loss)
    order, old = torch.tensor([3, 0, 5, 1, 2, 4]), torch.tensor([8, 1, 0, 2, 7, 3, 6, 4, 5])
    turned = info_nce(
        query[order], key[order], queue=queue[old], group=order, queue_group=about["queue_group"][old], temperature=0.2
    )
    torch.testing.assert_close(turned, loss)


def test_the_queue_holds_the_last_keys_newest_first() -> None:
    torch.manual_seed(0)
    objective = MoCo(tiny_encoder(), SMALL)
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.5)
    keys: list[Tensor] = []
    batches: list[tuple[Tensor, list[int]]] = []  # newest first
    for step in range(5):
        for part in range(2 if step == 2 else 1):  # the third step accumulates two batches
            views = views_of(torch.randn(3, 2, 1, 4, 4), group=torch.arange(3) + 10 * step + 5 * part)
            keys = F.normalize(objective.keys(views.whole.transpose(0, 1).flatten(0, 1)), dim=1)
            batches.insert(0, (keys, views.group.tolist() * 2))
            before = objective.queue.clone()
            loss, _ = objective(views)
            loss.backward()
            assert torch.equal(objective.queue, before), "nothing moves before the step"
        optimizer.step()
        optimizer.zero_grad()
        objective.after_step((step + 1) / 5)
        expected = torch.cat([keys for keys, _ in batches])[:20]
        groups = [number for _, group in batches for number in group][:20]
        torch.testing.assert_close(objective.queue[: len(expected)], expected)
        assert objective.queue_group.tolist() == groups + [EMPTY] * (20 - len(groups))
    assert len(groups) == 20, "the oldest are gone"


def test_the_key_network_is_the_moving_average_and_gets_no_gradient() -> None:
    torch.manual_seed(0)
    objective = MoCo(tiny_encoder(), SMALL)
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.5)
    weights = [objective.encoder.net[1].weight.detach().double().clone()]  # type: ignore[index]
    for step in range(4):
        loss, _ = objective(views_of(torch.randn(6, 2, 1, 4, 4)))
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is None for p in objective.keys.parameters())
        optimizer.step()
        objective.after_step((step + 1) / 4)
        weights.append(objective.encoder.net[1].weight.detach().double().clone())  # type: ignore[index]
    # He 2020, eq. 2, unrolled
    expected = 0.99**4 * weights[0] + sum(0.01 * 0.99 ** (4 - i) * weights[i] for i in range(1, 5))
    found = dict(objective.keys.named_parameters())["copy.0.net.1.weight"]
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-5)


def test_the_variance_term_is_small_for_even_directions_and_pushes_out_of_collapse() -> None:
    even = unit(4000, 8, seed=0)
    assert float(lack_of_spread(even)) < 0.02
    assert float(lack_of_spread(unit(1, 8, seed=0).repeat(10, 1))) == pytest.approx(0.99)
    line = F.normalize(torch.randn(50, 1, generator=torch.Generator().manual_seed(0)) * torch.eye(8)[:1], dim=1)
    assert 0.7 < float(lack_of_spread(line)) < 0.9, "one direction of eight varies"
    near = (unit(1, 8, seed=0) + 1e-3 * unit(10, 8, seed=1)).requires_grad_()
    lack_of_spread(near).backward()
    assert (near.grad * (near - near.mean(dim=0)) <= 0).all() and near.grad.abs().sum() > 0
    z = unit(7, 3, seed=4)
    std = [math.sqrt(3 * sum((float(x) - float(column.mean())) ** 2 for x in column) / 6 + 1e-4) for column in z.T]
    assert float(lack_of_spread(z)) == pytest.approx(sum(max(0, 1 - s) for s in std) / 3, rel=1e-4)


def test_learns_what_views_share() -> None:
    _, before, after = learned("moco", steps=200, queue_size=256)
    assert before < 0.4 and after > 0.7, (before, after)
