"""labels.csv against the contract: every refusal names the row."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medtl.data.label_rows import read_labels
from medtl.data.labels import LabelTable, join_labels, match_labels
from medtl.data.manifest import manifest_table, reject_table
from medtl.data.pseudonyms import pseudonym, salt
from medtl.errors import LabelError

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(text: str, encoding: str = "utf-8") -> Path:
        path = tmp_path / "labels.csv"
        path.write_text(text, encoding=encoding)
        return path

    return make


def manifest(*rows: tuple[str, str, str], source: str = "/scans") -> pd.DataFrame:
    """Rows of path, patient and part; scan ids are s0, s1, ..."""
    table = manifest_table(
        [
            {"scan_id": f"s{i}", "path": path, "source": source, "split": split}
            | {"patient_id": pseudonym("patient", patient, key=salt())}
            | {"depth_px": 1, "height_px": 1, "width_px": 1, "files": 1}
            for i, (path, patient, split) in enumerate(rows)
        ]
    )
    return table


SCANS = manifest(("a/1.png", "A", "train"), ("a/2.png", "A", "train"), ("b/1.png", "B", "test"))
NONE = reject_table([])


def reject(path: str, code: str, scan_id: str = "") -> dict[str, Any]:
    return {"path": path, "code": code, "message": "", "source": "/scans", "scan_id": scan_id}


def refusal(file: Path, scans: pd.DataFrame = SCANS, rejects: pd.DataFrame = NONE) -> str:
    with pytest.raises(LabelError) as caught:
        join_labels([file], scans, rejects)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{file}")


def test_labels_are_aligned_with_the_manifest(write: Write) -> None:
    table = join_labels([write("path,nodule,effusion\nb/1.png,1,0\na/1.png,,1\n")], SCANS, NONE)
    assert table.findings == ("nodule", "effusion")
    nan = np.nan
    np.testing.assert_array_equal(table.values, np.array([[nan, 1], [nan, nan], [1, 0]], np.float32))


@pytest.mark.parametrize("path", ["a/2.png", "./a/2.png", "a//2.png", "a\\2.png", "/scans/a/2.png", "../scans/a/2.png"])
def test_ways_to_name_a_scan(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    scans = manifest(("a/1.png", "A", "train"), ("a/2.png", "A", "train"), source=str(tmp_path / "scans"))
    (folder / "labels.csv").write_text(f"path,x\n{path.replace('/scans', str(tmp_path / 'scans'), path[0] == '/')},1\n")
    assert np.nansum(join_labels([folder / "labels.csv"], scans, NONE).values[1]) == 1


def test_scan_ids_count_before_paths(write: Write) -> None:
    table = join_labels([write("path,scan_id,x\nmoved.png,s2,1\na/1.png,,0\n")], SCANS, NONE)
    assert table.values[[0, 2], 0].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,x\na/1.png,yes\n", ", row 2: x is 'yes'; expected 0 (absent), 1 (present) or nothing"),
        ("path,x\na/1.png,1\n\na/2.png,2\nb/1.png,0\n", ", row 4: x is '2'"),
        ("path,x\na/1.png,1\nc/9.png,0\n", ", row 3: path 'c/9.png' matches no scan; the dataset's look like"),
        ("scan_id,x\ns9,1\n", ", row 2: scan_id 's9' matches no scan; the dataset's look like 's0'"),
        ("path,x\n,1\n", ", row 2: names no scan"),
        ("path,x\na/1.png,1\na/1.png,0\n", ", row 3: 'a/1.png' is also in row 2, which says otherwise about x"),
        ("path,patient_id,x\na/1.png,A,1\na/1.png,B,1\n", ", row 3: 'a/1.png' is also in row 2, as of patient A"),
        ("path,split,x\na/1.png,valid,1\n", ", row 2: split is 'valid'; expected train, val, test or nothing"),
        ("path,patient_id,split,x\na/1.png,Q,train,1\na/2.png,Q,test,1\n", ", row 3: puts the patient into 'test'"),
        ("path,split,x\na/1.png,train,1\na/2.png,test,1\n", ", row 3: puts the patient into 'test'"),
        ("path,patient_id\na/1.png,A\n", ": has no column of findings"),
        ("file,x\na/1.png,1\n", ": has the columns file, x; expected path or scan_id"),
        ("path;x\na/1.png;1\n", ": its columns are separated by semicolons or tabs"),
        ("path,x,x\na/1.png,1,1\n", ", row 1: two columns are called 'x'"),
        ("path,x,\na/1.png,1,1\n", ", row 1: column 3 has no name"),
        ("path,x\na/1.png,1,1\n", ", row 2: has 3 cells, the header has 2"),
        ("path,x\n", ": has a header and no rows"),
        ("", ": has the columns none; expected path or scan_id"),
        ("path,x\n\"a/1.png,1\n", ": cannot be read as CSV"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_row(write: Write, text: str, words: str) -> None:
    assert refusal(write(text)).startswith(words)


def test_files_that_are_no_csv(tmp_path: Path, write: Write) -> None:
    assert refusal(tmp_path / "gone.csv") == ": no such file"
    assert "UTF-8" in refusal(write("path,größe\n", encoding="latin-1"))  # type: ignore[call-arg]


def test_measurements_and_empty_columns_are_left_out_aloud(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    file = write("path,mm3,x,later\na/1.png,2948.0,1,\na/2.png,3353.0,0,\n")
    assert join_labels([file], SCANS, NONE).findings == ("x",)
    said = capsys.readouterr().err
    assert "column 'mm3' holds measurements" in said and "column 'later' is empty" in said


def test_tables_with_gaps_write_whole_numbers_as_floats(write: Write) -> None:
    assert join_labels([write("path,x\na/1.png,1.0\na/2.png,\nb/1.png,0.0\n")], SCANS, NONE).values[0, 0] == 1


def test_byte_order_mark_and_windows_lines(write: Write) -> None:
    assert join_labels([write("\ufeffpath,x\r\na/1.png,1\r\n")], SCANS, NONE).values[0, 0] == 1


def test_the_same_name_in_two_folders_needs_an_id(write: Write) -> None:
    scans = pd.concat([SCANS, SCANS.assign(source="/other", scan_id=["t0", "t1", "t2"])], ignore_index=True)
    said = refusal(write("path,x\na/1.png,1\n"), scans)
    assert "is in several of the ingested folders; name the scan by scan_id" in said
    assert join_labels([write("scan_id,x\nt1,1\n")], scans, NONE).values[4, 0] == 1


def test_labels_of_rejected_files_are_only_counted(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    file = write("path,x\na/1.png,1\nbad.dcm,1\n")
    assert np.nansum(join_labels([file], SCANS, reject_table([reject("bad.dcm", "truncated")])).values) == 1
    assert "not used because their files were rejected: 1 label\n" in capsys.readouterr().err


def test_labels_of_a_duplicate_are_those_of_the_scan_that_was_kept(write: Write) -> None:
    rejects = reject_table([reject("copy.png", "duplicate", "s0")])
    file = write("path,x,y\na/1.png,1,\ncopy.png,1,0\n")
    assert join_labels([file], SCANS, rejects).values[0].tolist() == [1, 0]
    assert "row 3: 'copy.png' is also in row 2, which says otherwise about x" in refusal(
        write("path,x\na/1.png,1\ncopy.png,0\n"), SCANS, rejects
    )


def test_labels_that_contradict_the_datasets_parts_are_refused(write: Write) -> None:
    assert "the dataset has it in 'train'; ingest the scans again with --labels" in refusal(
        write("path,split,x\na/1.png,test,1\n")
    )
    leak = refusal(write("path,patient_id,x\na/1.png,Z,1\nb/1.png,Z,0\n"))
    assert "the scans of patient Z are in the parts 'train' and 'test'" in leak


def test_what_a_labels_file_says_about_patients_and_parts(write: Write) -> None:
    rows = read_labels(write("path,patient_id,split,x\na/1.png,00012,val,1\nb/1.png,,,0\n"))
    join = match_labels([rows], SCANS, NONE, key=salt())
    assert (join.patients, join.splits) == ({0: "00012"}, {0: "val"})


@pytest.mark.parametrize(
    ("values", "exclusive"),
    [
        ([[1, 0, 0], [0, 0, 1], [np.nan] * 3], True),
        ([[1, 0, 0], [0, 1, 1]], False),
        ([[1, 0, 0], [0, 0, 0]], False),
        ([[1, 0, 0], [1, np.nan, 0]], False),
        ([[1, 0], [0, 1]], False),
        ([[np.nan] * 3], False),
    ],
)
def test_exclusive_findings(values: list[list[float]], exclusive: bool) -> None:
    array = np.array(values, np.float32)
    assert LabelTable(findings=("a", "b", "c")[: array.shape[1]], values=array).exclusive is exclusive


NAN = np.nan


def files(folder: Path, *texts: str) -> list[Path]:
    """Labels files a.csv, b.csv, ..."""
    paths = [folder / f"{name}.csv" for name in "abc"[: len(texts)]]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return paths


def test_a_later_file_corrects_the_earlier_and_says_how_often(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = "path,x,y\na/1.png,1,0\na/2.png,0,\nb/1.png,1,1\n"
    verdicts = "scan_id,y,z\ns0,1,1\ns1,0,\ns2,,0\n"
    paths = files(tmp_path, first, verdicts, "path,x\na/1.png,0\nb/1.png,1\n")
    table = join_labels(paths, SCANS, NONE)
    assert table.findings == ("x", "y", "z")
    np.testing.assert_array_equal(table.values, [[0, 1, 1], [0, 0, NAN], [1, 1, 0]])
    said = capsys.readouterr().err.splitlines()
    assert "b.csv: adds 3 labels to the earlier ones and changes 1 of those" in said[0]
    assert "c.csv: adds 0 labels to the earlier ones and changes 1 of those" in said[1]
    assert len(said) == 2
    back = join_labels(paths[::-1], SCANS, NONE)
    assert dict(zip(back.findings, back.values[0].tolist(), strict=True)) == {"x": 1, "y": 0, "z": 1}


def test_the_files_are_named_by_what_sha256sum_prints(tmp_path: Path) -> None:
    paths = files(tmp_path, "path,x\na/1.png,1\n", "path,y\na/1.png,1\n")
    printed = subprocess.run(["sha256sum", *paths], capture_output=True, text=True, check=True).stdout.split()[::2]
    expected = tuple(f"{path.name} (sha256 {digest[:16]})" for path, digest in zip(paths, printed, strict=True))
    assert join_labels(paths, SCANS, NONE).files == expected


def test_files_may_not_disagree_about_patients_and_parts(tmp_path: Path) -> None:
    two = files(tmp_path, "path,patient_id,x\na/1.png,A,1\n", "path,patient_id,x\n\na/1.png,B,1\n")
    with pytest.raises(
        LabelError, match=r"b.csv, row 3: 'a/1.png' is also in row 2 of .*a.csv, as of patient A, not B"
    ):
        join_labels(two, SCANS, NONE)
    leak = files(tmp_path, "path,patient_id,x\na/1.png,Z,1\n", "path,patient_id,x\nb/1.png,Z,1\n")
    with pytest.raises(LabelError, match=r"a.csv, .*b.csv: the scans of patient Z are in the parts 'train' and 'test'"):
        join_labels(leak, SCANS, NONE)
    parts = files(tmp_path, "path,split,x\na/1.png,train,1\n", "path,split,x\na/2.png,val,1\n")
    with pytest.raises(LabelError, match=r"b.csv, row 2: puts the patient into 'val' whom row 2 of .*a.csv puts into"):
        join_labels(parts, SCANS, NONE)


def test_a_patient_and_his_pseudonym_are_one(tmp_path: Path) -> None:
    """A dataset's labels.csv holds pseudonyms, what a hospital adds may hold its own ids."""
    a = pseudonym("patient", "A", key=salt())
    first, second = f"path,patient_id,x\na/1.png,{a},1\n", "path,patient_id,x\na/1.png,A,0\n"
    for texts, expected in (((first, second), 0), ((second, first), 1)):
        assert join_labels(files(tmp_path, *texts), SCANS, NONE).values[0, 0] == expected
    with pytest.raises(LabelError, match=rf"b.csv, row 2: 'a/1.png' is also in row 2 of .*, as of patient {a}, not B"):
        join_labels(files(tmp_path, first, second.replace(",A,", ",B,")), SCANS, NONE)
    leak = files(tmp_path, first, "path,patient_id,x\nb/1.png,A,1\n")
    with pytest.raises(LabelError, match="the scans of patient A are in the parts 'train' and 'test'"):
        join_labels(leak, SCANS, NONE)


def test_classes_that_exclude_each_other_no_more_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classes = "path,a,b,c\na/1.png,1,0,0\nb/1.png,0,0,1\n"
    moved = join_labels(files(tmp_path, classes, "path,a,b\na/1.png,0,1\n"), SCANS, NONE)
    assert moved.exclusive and "note" not in capsys.readouterr().err
    none = join_labels(files(tmp_path, classes, "path,a\na/1.png,0\n"), SCANS, NONE)
    assert not none.exclusive
    assert "a, b, c were classes, of which each labeled scan has exactly one; with b.csv" in capsys.readouterr().err
