from collections import Counter

from medtl.data.split import part_at, place_of


def test_shares_are_70_10_20() -> None:
    counts = Counter(part_at(place_of(str(i), 0)) for i in range(20_000))
    for part, share in {"train": 0.7, "val": 0.1, "test": 0.2}.items():
        assert abs(counts[part] / 20_000 - share) < 0.012  # four standard deviations of a binomial


def test_parts_do_not_change_between_versions() -> None:
    """Moving a patient from test to train would leak into every later comparison."""
    parts = ["train", "train", "train", "test", "train", "val", "train", "train"]
    assert [part_at(place_of(str(i), 0)) for i in range(8)] == parts
