"""What ingest says of scans that it took as something."""

from medtl.data.dataset import Dataset
from medtl.data.hounsfield import TAKEN_AS_CT
from medtl.data.windows import FULL_HU, NAMED_HU
from medtl.progress import counted


def windows_to_choose(data: Dataset) -> list[str]:
    """A note where most scans were taken as CT and no window was asked for."""
    count = int(data.manifest["steps"].str.contains(TAKEN_AS_CT, regex=False).sum())
    if data.spec.window or 2 * count <= len(data):
        return []
    low, high = FULL_HU
    return [
        f"note: {counted(count, 'scan')} taken as CT and shown from {low:g} to {high:g} HU; a window shows a tissue "
        "better, such as --window abdomen, or several for channels: " + ", ".join(NAMED_HU)
    ]
