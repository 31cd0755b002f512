"""Which heatmap finds the lesion: the pointing game on the simulated radiographs, whose masks are known.

    medtl ingest sample_data/images --labels sample_data/labels.csv --out data
    medtl finetune data --encoder imagenet --out bundle --set steps=100
    python benchmarks/heatmaps.py bundle data
    python benchmarks/heatmaps.py bundle data --methods grad-cam --layers net._act net._blocks.14 net._blocks.10

For every lesion of the val and test parts: does the hottest pixel lie in the mask, or within 8 pixels (15 mm) of it?
(Zhang 2018, arXiv 1608.00507, sec. 4.2, with its tolerance.) Ties count as what a random one of them would hit. Seconds
are of the processor.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation

import medtl
from medtl.data.sources import read_scan
from medtl.inference.explain import METHODS
from medtl.inference.runtime import Detector

TOLERANCE_PX = 8


def hits(detector: Detector, paths: list[str], samples: Path, method: str) -> tuple[dict[str, list[float]], float]:
    """By finding, the share of a hit for each lesion; and the mean seconds for a heatmap."""
    found: dict[str, list[float]] = {finding: [] for finding in detector.bundle.findings}
    seconds: list[float] = []
    for path in paths:
        scan = read_scan(samples / "images" / path)
        for finding in detector.bundle.findings:
            mask_file = samples / "masks" / f"{path.removesuffix('.dcm').replace('/', '-')}-{finding}.png"
            if not mask_file.exists():
                continue
            began = time.process_time()
            heat = detector.explain(scan, finding, method)
            seconds.append(time.process_time() - began)
            mask = Image.open(mask_file).resize(heat.shape[::-1])
            near = binary_dilation(np.asarray(mask) > 0, iterations=TOLERANCE_PX)
            found[finding].append(float(near[heat == heat.max()].mean()))
    return found, float(np.mean(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--samples", type=Path, default=Path(__file__).parents[1] / "sample_data")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--layers", nargs="+", help="names of submodules of the encoder, in place of its own")
    asked = parser.parse_args()
    detector = medtl.load(asked.bundle)
    manifest = medtl.open_dataset(asked.dataset).manifest
    paths = sorted(manifest["path"][manifest["split"] != "train"])
    encoder = detector._classifier.encoder
    for layer in asked.layers or [encoder.cam_layer]:
        encoder.cam_layer = layer
        for method in asked.methods:
            found, seconds = hits(detector, paths, asked.samples, method)
            all_of = np.mean([hit for each in found.values() for hit in each])
            words = "  ".join(f"{name} {np.mean(each):.2f} of {len(each)}" for name, each in found.items())
            print(f"{method} at {layer}  {words}  all {all_of:.2f}  {seconds:.2f} s", flush=True)


if __name__ == "__main__":
    main()
