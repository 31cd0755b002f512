"""How fast scans are read, beside MONAI's LoadImage and Resize in a DataLoader with as many workers.

    python benchmarks/ingest.py [--real FOLDER] [--rounds 3]

Makes (a) 500 DICOM files of 1024 x 1024 from real radiographs (the simulated ones where there are none) in three
transfer syntaxes, and (b) 1,000 PNGs; then reads them in turn with both and prints images per second, the medians'
ratio, and the share of one process's time that is spent in decoders.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it runs as a file, too, from anywhere

from benchmarks.radiographs import REAL, Picture, pictures, write_dicoms

SIZE_PX = 256
DICOMS, PNGS, SIDE = 500, 1000, 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, default=REAL)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    import joblib

    workers = joblib.cpu_count()
    with tempfile.TemporaryDirectory() as folder:
        shown = pictures(given.real, most=PNGS)
        dicoms = write_dicoms(shown, Path(folder) / "dicom", count=DICOMS, side_px=SIDE)
        pngs = _pngs(shown, Path(folder) / "png")
        _compare("500 DICOM", dicoms, given.rounds, workers)
        _compare("1,000 PNG", pngs, given.rounds, workers)
        for place, syntax in enumerate(("native", "JPEG-LS", "JPEG 2000")):
            _compare(f"  of the DICOM, {syntax}", dicoms[place::3], 1, workers)


def _compare(name: str, files: list[Path], rounds: int, workers: int) -> None:
    ways: dict[str, Callable[[list[Path]], None]] = {"medtl": _medtl, "MONAI": _monai}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for read in ways.values():
        read(files[:16])  # processes and imports
    for _ in range(rounds):
        for way, read in ways.items():
            began = time.monotonic()
            read(files)
            rates[way].append(len(files) / (time.monotonic() - began))
    ours, theirs = (statistics.median(rates[way]) for way in ways)
    print(f"{name}, {workers} workers: medtl {ours:.0f} images/s, MONAI {theirs:.0f} images/s, "
          f"ratio {ours / theirs:.2f}; in decoders {100 * _decoder_share(files):.0f} %", flush=True)  # fmt: skip


def _medtl(files: list[Path]) -> None:
    from medtl.data.preprocess import PreprocessSpec
    from medtl.data.reading import ReadPlan, Taken, read_units
    from medtl.data.sources import FoundFile
    from medtl.data.units import image_units

    plan = ReadPlan(spec=PreprocessSpec(size_px=SIZE_PX), key=b"benchmark", seed=0)
    found = [FoundFile(path=path, name=path.name, root=path.parent) for path in files]
    taken = [item for _, items in read_units(image_units(found), plan) for item in items if isinstance(item, Taken)]
    assert len(taken) == len(files), "a file was refused"


def _monai(files: list[Path]) -> None:
    import joblib
    from monai.data import DataLoader, Dataset
    from monai.transforms import Compose, EnsureChannelFirst, LoadImage, Resize

    reader = "PydicomReader" if files[0].suffix == ".dcm" else "PILReader"
    load = Compose([LoadImage(image_only=True, reader=reader), EnsureChannelFirst(), Resize((SIZE_PX, SIZE_PX))])
    count = 0
    for batch in DataLoader(Dataset([str(file) for file in files], load), batch_size=8, num_workers=joblib.cpu_count()):
        count += len(batch)
    assert count == len(files)


def _decoder_share(files: list[Path]) -> float:
    """Of the time that one process takes to turn files into rows and blocks; clocks around the decoders tell.

    A profiler would count Python's calls, which it makes slower, for more than they are.
    """
    from PIL import ImageFile

    from medtl.data import dicom, images
    from medtl.data.preprocess import PreprocessSpec
    from medtl.data.reading import CHUNK, ReadPlan, read_chunk
    from medtl.data.sources import FoundFile
    from medtl.data.units import image_units

    plan = ReadPlan(spec=PreprocessSpec(size_px=SIZE_PX), key=b"benchmark", seed=0)
    units = image_units([FoundFile(path=path, name=path.name, root=path.parent) for path in files])
    inside = [0.0]

    def timed(decode: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return decode(*args, **kwargs)
            finally:
                inside[0] += time.perf_counter() - began

        return run

    read_chunk((plan, units[:3]))
    with (
        mock.patch.object(dicom, "decode", timed(dicom.decode)),
        mock.patch.object(images, "decode_grey", timed(images.decode_grey)),
        mock.patch.object(ImageFile.ImageFile, "load", timed(ImageFile.ImageFile.load)),
    ):
        began = time.perf_counter()
        for first in range(0, len(units), CHUNK):
            read_chunk((plan, units[first : first + CHUNK]))
        return inside[0] / (time.perf_counter() - began)


def _pngs(shown: Sequence[Picture], folder: Path) -> list[Path]:
    folder.mkdir()
    paths = []
    for index in range(PNGS):
        paths.append(folder / f"{index:04d}.png")
        Image.fromarray(shown[index % len(shown)]).save(paths[-1])
    return paths


if __name__ == "__main__":
    main()
