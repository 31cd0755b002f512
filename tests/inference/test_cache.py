"""Kept embeddings are those of the encoder, and are thrown away with what they depend on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from medtl.data.preprocess import PreprocessSpec
from medtl.inference import cache as module
from medtl.inference.cache import FOLDER, EmbeddingCache, encoder_digest

SPEC = PreprocessSpec(size_px=16, input_px=16)
BLOCKS = np.random.default_rng(0).integers(0, 256, (11, 1, 16, 16), dtype=np.uint8)
NAMES = [f"scan{i}" for i in range(11)]


class Mean(nn.Module):
    """An encoder whose embeddings are known: the mean, and the first pixel, which a mirror moves."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x.mean(dim=(1, 2, 3)), x[:, 0, 0, 0]], dim=1)


def cache(folder: Path, *, dataset: str = "d1", encoder: str = "e1", flip_average: bool = False) -> EmbeddingCache:
    return EmbeddingCache(folder / "data", dataset=dataset, encoder=encoder, spec=SPEC, flip_average=flip_average)


def asked(kept: EmbeddingCache, places: list[int]) -> tuple[torch.Tensor, int, list[int]]:
    """Embeddings of places, how many were kept, and which blocks were read."""
    read: list[int] = []

    def stored(wanted: np.ndarray) -> np.ndarray:
        read.extend(places[i] for i in wanted)
        return BLOCKS[[places[i] for i in wanted]]

    rows, count = kept.embeddings([NAMES[i] for i in places], stored, Mean)
    return rows, count, read


def expected(places: list[int], *, flip_average: bool = False) -> torch.Tensor:
    images = BLOCKS[places].astype(np.float64) / 127.5 - 1
    first = images[:, 0, 0, 0]
    if flip_average:
        first = (first + images[:, 0, 0, -1]) / 2
    return torch.from_numpy(np.stack([images.mean(axis=(1, 2, 3)), first], axis=1)).float()


def test_only_what_is_new_is_computed(tmp_path: Path) -> None:
    rows, count, read = asked(cache(tmp_path), [3, 0, 5])
    assert (count, read) == (0, [3, 0, 5])
    torch.testing.assert_close(rows, expected([3, 0, 5]), atol=1e-5, rtol=0)
    again, count, read = asked(cache(tmp_path), [10, 5, 4, 3])
    assert (count, read) == (2, [10, 4])
    torch.testing.assert_close(again, expected([10, 5, 4, 3]), atol=1e-5, rtol=0)
    assert torch.equal(again[3], rows[0]), "what was kept comes back to the bit"


def test_company_does_not_change_an_embedding(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    alone, _, _ = asked(cache(tmp_path / "a"), [7])
    crowd, _, _ = asked(cache(tmp_path), list(range(11)))
    assert torch.equal(alone[0], crowd[7])


def test_the_mean_with_the_mirror_image(tmp_path: Path) -> None:
    rows, _, _ = asked(cache(tmp_path, flip_average=True), [1, 2])
    torch.testing.assert_close(rows, expected([1, 2], flip_average=True), atol=1e-5, rtol=0)


def test_another_encoder_has_its_own_and_another_dataset_replaces(tmp_path: Path) -> None:
    asked(cache(tmp_path), [0, 1])
    assert asked(cache(tmp_path, encoder="e2"), [0])[1] == 0
    assert len(list((tmp_path / FOLDER).iterdir())) == 2
    assert asked(cache(tmp_path), [0, 1])[1] == 2
    changed = cache(tmp_path, dataset="d2")
    assert asked(changed, [0])[1] == 0
    assert list((tmp_path / FOLDER).iterdir()) == [changed.file], "what was kept of the dataset before is gone"


@pytest.mark.parametrize("content", [b"", b"\0" * 99, None])
def test_a_damaged_file_is_made_again(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = cache(tmp_path)
    rows, _, _ = asked(kept, [0, 1, 2])
    kept.file.write_bytes(kept.file.read_bytes()[:-5] if content is None else content)
    again, count, _ = asked(kept, [0, 1, 2])
    assert count == 0 and torch.equal(rows, again)
    assert "cannot be read" in capsys.readouterr().err
    assert asked(kept, [0, 1, 2])[1] == 3


def test_where_nothing_can_be_written_it_works_all_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / FOLDER).write_text("a file where the folder should be")
    rows, count, _ = asked(cache(tmp_path), [2])
    torch.testing.assert_close(rows, expected([2]), atol=1e-5, rtol=0)
    assert count == 0 and "cannot be written" in capsys.readouterr().err


def test_a_kill_while_writing_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = cache(tmp_path)
    asked(kept, [0])
    before = kept.file.read_bytes()

    def killed(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        asked(kept, [0, 1])
    assert kept.file.read_bytes() == before
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [kept.file.name], "nothing temporary is left"


def test_heads_do_not_change_the_encoders_digest_and_weights_do() -> None:
    weights = {"encoder.net.w": torch.ones(2, 3), "encoder.net.n": torch.tensor(4), "head.weight": torch.ones(1, 2)}
    same = weights | {"head.weight": torch.zeros(1, 2), "head.1.weight": torch.ones(1, 2)}
    assert encoder_digest(weights) == encoder_digest(same)
    changed = torch.ones(2, 3)
    changed[1, 2] = torch.nextafter(changed[1, 2], torch.tensor(2.0))
    assert encoder_digest(weights) != encoder_digest(weights | {"encoder.net.w": changed})
    assert encoder_digest(weights) != encoder_digest(weights | {"encoder.net.w": torch.ones(3, 2)})
