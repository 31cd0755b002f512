"""Which layer's Grad-CAM finds the lesion: the pointing game on the simulated radiographs, whose masks are known.

    medtl ingest sample_data/images --labels sample_data/labels.csv --out data
    medtl finetune data --encoder imagenet --out bundle --set steps=100
    python benchmarks/heatmaps.py bundle data --layers net._act net._blocks.14 net._blocks.10

For every lesion of the val and test parts: does the hottest pixel lie in the mask, or within 8 pixels (15 mm) of it?
(Zhang 2018, arXiv 1608.00507, sec. 4.2, with its tolerance.)
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation

import medtl
from medtl.data.sources import read_scan
from medtl.inference.runtime import Detector

TOLERANCE_PX = 8


def hits(detector: Detector, paths: list[str], samples: Path) -> dict[str, list[bool]]:
    found: dict[str, list[bool]] = {finding: [] for finding in detector.bundle.findings}
    for path in paths:
        scan = read_scan(samples / "images" / path)
        for finding in detector.bundle.findings:
            mask_file = samples / "masks" / f"{path.removesuffix('.dcm').replace('/', '-')}-{finding}.png"
            if not mask_file.exists():
                continue
            heat = detector.explain(scan, finding)
            mask = Image.open(mask_file).resize(heat.shape[::-1])
            near = binary_dilation(np.asarray(mask) > 0, iterations=TOLERANCE_PX)
            found[finding].append(bool(near[np.unravel_index(heat.argmax(), heat.shape)]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--samples", type=Path, default=Path(__file__).parents[1] / "sample_data")
    parser.add_argument("--layers", nargs="+", required=True, help="names of submodules of the encoder")
    asked = parser.parse_args()
    detector = medtl.load(asked.bundle)
    manifest = medtl.open_dataset(asked.dataset).manifest
    paths = sorted(manifest["path"][manifest["split"] != "train"])
    for layer in asked.layers:
        detector._classifier.encoder.cam_layer = layer
        found = hits(detector, paths, asked.samples)
        print(
            layer, "  ".join(f"{name} {np.mean(each):.2f} of {len(each)}" for name, each in found.items()), flush=True
        )


if __name__ == "__main__":
    main()
