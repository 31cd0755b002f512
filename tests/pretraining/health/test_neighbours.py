"""Nearest scans and the map."""

import numpy as np
import torch

from medtl.pretraining.health.neighbours import flat_map, nearest, queries_of


def test_nearest_equals_a_loop_and_shows_other_patients() -> None:
    x = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    patients = np.arange(30) // 3
    queries = queries_of(patients, count=5)
    assert len(set(patients[queries])) == 5
    got = nearest(x, patients, queries, count=4)
    for query, found in zip(queries, got, strict=True):
        cosine = {i: float(torch.cosine_similarity(x[query], x[i], dim=0)) for i in range(30)
                  if patients[i] != patients[query]}  # fmt: skip
        assert list(found) == sorted(cosine, key=lambda i: -cosine[i])[:4]


def test_few_patients_give_fewer_neighbours() -> None:
    x = torch.randn(3, 5)
    assert nearest(x, np.array([0, 1, 2]), np.array([0]), count=4).shape == (1, 2)
    assert nearest(x, np.zeros(3, np.int64), np.array([0]), count=4).shape == (1, 0)


def test_map_keeps_two_clouds_apart_and_bears_a_collapse() -> None:
    x = torch.randn(60, 6, generator=torch.Generator().manual_seed(0)) * 0.1
    x[:30, 0] += 1
    x[30:, 1] += 1
    for thorough in (False, True):
        places = flat_map(x, thorough=thorough)
        first, second = places[:30], places[30:]
        within = np.linalg.norm(first - first.mean(axis=0), axis=1).mean()
        assert np.linalg.norm(first.mean(axis=0) - second.mean(axis=0)) > 2 * within
        assert np.isfinite(flat_map(torch.ones(60, 6), thorough=thorough)).all()
    assert flat_map(torch.ones(2, 6), thorough=True).shape == (2, 2)
