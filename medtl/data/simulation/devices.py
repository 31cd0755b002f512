"""What lies on patients who are radiographed in bed: electrodes and their wires. It says nothing about findings."""

import numpy as np

from medtl.data.simulation.rays import Array, Rays
from medtl.data.simulation.tubes import curve, tube


def electrodes(rays: Rays, rng: np.random.Generator) -> Array:
    """Line integral (H, W) of attenuation in one to four electrodes and wires on the front of the chest."""
    total = np.zeros(rays.shape, np.float32)
    for _ in range(rng.integers(1, 5)):
        x, z = rng.choice([-1, 1]) * rng.uniform(55, 150), rng.uniform(-110, 110)
        leaves = (rng.normal(0, 130), 112.0, rng.choice([-230.0, 190.0]))
        bends = [
            ((1 - s) * x + s * leaves[0] + rng.normal(0, 16), 114.0, (1 - s) * z + s * leaves[2]) for s in (0.3, 0.65)
        ]
        wire = tube(curve([(x, 114.0, z), *bends, leaves], spacing_mm=0.8), high_mm=0.7, wide_mm=0.7, rings=2)
        stud = tube(curve([(x, 112.0, z), (x, 116.0, z)]), high_mm=3.6, wide_mm=3.6, rings=5)
        total += 0.16 * rays.splat(wire.points, wire.volume_mm3) + 0.14 * rays.splat(stud.points, stud.volume_mm3)
    return total
