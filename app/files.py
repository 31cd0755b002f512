"""The scan of a case, from the path that was recorded when it was scored; a file that is gone or changed is refused."""

from pathlib import Path

from medtl.data.kinds import kind_of
from medtl.data.scan import Scan
from medtl.data.sources import FoundFile, find_files, head_of
from medtl.data.units import Unit, image_units, scans_in, volume_units
from medtl.errors import ScanError
from medtl.review.records import Case, file_of

UPLOADED = (
    "was uploaded and is no longer in memory: uploads are never kept on disk. Open the same file again to read it"
)
GONE = "its file is gone since it was scored; put it back, or score it where it is now and import the scores again"
CHANGED = "its file has changed since it was scored; score it again and import the scores (medtl reviews import)"


def failed_on(name: str) -> ScanError:
    """Of a file upon which something went wrong that nobody thought of; the log has the traceback."""
    return ScanError("internal", name, "medtl failed on this file; the server's log says where")


def read_recorded(case: Case, *, dims: int) -> Scan:
    """Read the scan of a case from its file.

    Args:
        dims: 2 for images, 3 for volumes.

    Raises:
        ScanError: it was an upload, the file is gone, is another one than was scored (sha256), or cannot be read.
    """
    for found in scans_in(_unit(recorded(case), dims=dims), dims=dims):
        if found.scan.sha256 == case.sha256:
            return found.scan
    raise ScanError("changed", case.path, CHANGED)


def recorded(case: Case) -> Path:
    """The file that holds the scan of a case, unread.

    Raises:
        ScanError: it was an upload, or the file is gone.
    """
    if not Path(case.path).is_absolute():
        raise ScanError("not_kept", case.path, UPLOADED)
    path = file_of(case.path)
    if not path.is_file():
        raise ScanError("gone", case.path, GONE)
    return path


def _unit(path: Path, *, dims: int) -> Unit:
    """The file, or the series that it names."""
    alone = FoundFile(path=path, name=path.name, root=path.parent)
    if dims == 3 and kind_of(head_of(path, str(path)), name=str(path)) == "dicom":
        units, _ = volume_units(find_files([path.parent]))
        return next((unit for unit in units if unit.first == path), image_units([alone])[0])
    return image_units([alone])[0]
