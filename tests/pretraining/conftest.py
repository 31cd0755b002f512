"""The objective that docs/guide/new-objective.md shows, put in place as it says."""

import re
import sys
import types
from pathlib import Path

import pytest

from medtl.pretraining import methods

GUIDE = Path(__file__).parents[2] / "docs/guide/new-objective.md"


@pytest.fixture
def rotation(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The guide's file as a module; `--method rotation` finds it for the while."""
    file, line = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    name = "medtl.pretraining.objectives.rotation"
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(file, str(GUIDE), "exec"), module.__dict__)
    table = eval(f"{{{line}}}", {"Method": methods.Method})
    monkeypatch.setattr(methods, "METHODS", {**methods.METHODS, **table})
    return module
