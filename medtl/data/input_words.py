"""What ingest says of scans that it took as something."""

from medtl.data.dataset import Dataset
from medtl.data.hounsfield import TAKEN_AS_CT
from medtl.data.windows import FULL_HU, NAMED_HU


def windows_to_choose(data: Dataset) -> list[str]:
    """A note where most scans were taken as CT and no window was asked for."""
    count = int(data.manifest["steps"].str.contains(TAKEN_AS_CT, regex=False).sum())
    if data.spec.window or 2 * count <= len(data):
        return []
    low, high = FULL_HU
    return [
        f"note: {count:,} scans look like CT and are shown from {low:g} to {high:g} HU; a window shows a tissue "
        f"better, such as --window abdomen, or several for channels: {', '.join(NAMED_HU)}"
    ]
