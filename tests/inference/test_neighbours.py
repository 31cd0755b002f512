"""Similar cases: the nearest by cosine, of different patients, without the scan itself and its copies."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from medtl.inference.neighbours import similar
from medtl.inference.reference import Reference, reference_of, thumbnail
from tests.data.test_duplicates import anatomy, in_a_frame, jpeg
from tests.inference.conftest import on_circle, pictures

FINDINGS = ("nodule", "mass")


def test_nearest_first_with_labels_and_pictures(reference: Reference) -> None:
    found = similar(reference, on_circle(12), 3, findings=FINDINGS)
    assert [each.scan_id for each in found] == ["scan10", "scan0", "scan30"], "scan20 is of scan10's patient"
    # float16 embeddings: angles are kept to about a thousandth.
    assert [each.similarity for each in found] == pytest.approx(np.cos(np.deg2rad([2, 12, 18])), abs=1e-3)
    assert found[0].labels == {"nodule": 1, "mass": None} and found[2].labels == {"nodule": 0, "mass": 1}
    assert np.array_equal(found[0].thumbnail, pictures()[1])


def test_the_scan_itself_is_left_out(reference: Reference) -> None:
    found = similar(reference, on_circle(0), 2, findings=FINDINGS, scan_id="scan0")
    assert [each.scan_id for each in found] == ["scan10", "scan30"]


def test_a_copy_under_another_name_is_left_out(reference: Reference) -> None:
    small = Image.fromarray(pictures()[0]).resize((90, 90), Image.Resampling.BICUBIC)
    copy = np.asarray(small.resize((96, 96), Image.Resampling.BICUBIC))
    found = similar(reference, on_circle(0), 1, findings=FINDINGS, picture=copy)
    assert [each.scan_id for each in found] == ["scan10"]
    bare = replace(reference, thumbnails=None)
    found = similar(bare, on_circle(0), 1, findings=FINDINGS, picture=copy)
    assert [(each.scan_id, each.thumbnail) for each in found] == [("scan0", None)], "without pictures nobody can tell"


def test_what_all_scans_share_makes_no_copies() -> None:
    """In a bright ring and a black margin pictures of different people correlate by more than 0.9."""
    images = [in_a_frame(anatomy(seed)) for seed in range(20)]
    angles = np.arange(0, 100, 5)
    kept = reference_of(
        embeddings=np.stack([on_circle(angle) for angle in angles]),
        labels=np.ones((20, 1), np.float32),
        scan_ids=[str(angle) for angle in angles],
        thumbnails=np.stack([thumbnail(image[None]) for image in images]),
    )
    copy = thumbnail(jpeg(images[4])[None])
    nearest = [each.scan_id for each in similar(kept, on_circle(21), 5, findings=["x"], picture=copy)]
    assert nearest == ["25", "15", "30", "10", "35"], "all but 20, its copy"
    own = thumbnail(images[4][None])
    nearest = [each.scan_id for each in similar(kept, on_circle(21), 3, findings=["x"], scan_id="20", picture=own)]
    assert nearest == ["25", "15", "30"]


def test_fewer_than_asked_for_and_none_at_all(reference: Reference) -> None:
    assert len(similar(reference, on_circle(5), 50, findings=FINDINGS)) == 5, "one a patient"
    nobody = Reference(
        embeddings=np.zeros((0, 2), np.float32), labels=np.zeros((0, 2), np.float32), scan_ids=(),
        patients=np.zeros(0, np.int64),
    )  # fmt: skip
    assert similar(nobody, on_circle(5), 3, findings=FINDINGS) == ()
