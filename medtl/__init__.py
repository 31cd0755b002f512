"""medtl: from a folder of unlabeled scans to a calibrated, clinician-reviewed abnormality detector.

Every command of the `medtl` program is a function here, with the same name and the same defaults.
"""

import os
from importlib import import_module
from typing import Any

__version__ = "0.2.0"

# Before torch is loaded: its threads then sleep instead of spin while they wait for each other. On a machine that does
# something else as well, spinning makes training several times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if int(os.environ.get("WORLD_SIZE", "1")) > 1:
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP warns that it looks for parameters without a gradient

_PUBLIC = {
    "backup_reviews": "medtl.review.backup",
    "deidentify": "medtl.data.deidentify",
    "demo": "medtl.demonstration",
    "evaluate": "medtl.inference.evaluate",
    "export_labels": "medtl.review.export",
    "export_verdicts": "medtl.review.export",
    "fetch": "medtl.data.fetch",
    "finetune": "medtl.finetuning.finetune",
    "split_check": "medtl.data.split_check",
    "import_scores": "medtl.review.intake",
    "ingest": "medtl.data.ingest",
    "load": "medtl.inference.runtime",
    "methods": "medtl.pretraining.methods",
    "open_dataset": "medtl.data.dataset",
    "pretrain": "medtl.pretraining.pretrain",
    "report_reviews": "medtl.review.report",
    "score": "medtl.inference.score",
    "serve": "app.server",
    "strategies": "medtl.finetuning.strategies",
    "study": "medtl.studying.study",
    "teach": "medtl.finetuning.teach",
    "verify_reviews": "medtl.review.verify",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    # torch and monai take seconds to import: each function brings its own room in when first used.
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'medtl' has no attribute '{name}'")
