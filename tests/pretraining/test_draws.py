"""Numbers depend on identity alone, and each process gets its part of them."""

import torch

from medtl.pretraining.draws import Draws


def test_parts_make_up_the_whole() -> None:
    def numbers(part: slice | None) -> list[torch.Tensor]:
        draws = Draws("views", 0, 7, total=6, part=part)
        return [draws.uniform(2, 5, 3), draws.normal(2, 2), draws.chance(0.4).float(), draws.order(5).float()]

    whole = numbers(None)
    for all_of, first, second in zip(whole, numbers(slice(0, 2)), numbers(slice(2, 6)), strict=True):
        assert torch.equal(torch.cat([first, second]), all_of)
    assert whole[0].min() >= 2 and whole[0].max() < 5
    assert torch.equal(whole[3].sort(dim=1).values, torch.arange(5.0).expand(6, 5))


def test_names_have_numbers_of_their_own() -> None:
    draws = Draws("views", 0, 7, total=6)
    draws.uniform(0, 1)
    assert torch.equal(draws.named("masks").normal(2), Draws("views", 0, 7, "masks", total=6).normal(2))
    assert not torch.equal(Draws("views", 0, 8, total=6).normal(2), Draws("views", 0, 7, total=6).normal(2))
    assert len(Draws("x", total=6, part=slice(4, 6))) == 2
