"""Several tasks on one encoder: their labels side by side, losses by slow definitions, nobody in two parts."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import nn

import medtl
from medtl.config import build, load
from medtl.data.dataset import Dataset
from medtl.data.tasks import Task
from medtl.errors import ConfigError, LabelError, MedtlError
from medtl.finetuning import parts as parts_module
from medtl.finetuning.balance import LOG_VARIANCE_LR, SeveralTasks, extra_groups, supervised
from medtl.finetuning.batches import strata_of
from medtl.finetuning.calibrate import calibrated_from
from medtl.finetuning.config import FinetuneConfig
from medtl.finetuning.losses import Supervised, cross_entropy
from medtl.finetuning.parts import split_labeled
from medtl.finetuning.tasks import as_classes, labels_for
from medtl.inference.bundle import read_bundle
from medtl.training.batches import balanced_rows

NAN = float("nan")
TASKS = (
    Task(name="one", findings=("a", "b"), exclusive=False),
    Task(name="kind", findings=("x", "y", "z"), exclusive=True),
)
LABELS = torch.tensor([[1, NAN, NAN, NAN, NAN], [0, 1, 0, 1, 0], [NAN, NAN, 1, 0, 0], [NAN, 0, NAN, NAN, NAN]])
LOGITS = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))


class Given(nn.Module):
    """A classifier that says what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.said = nn.Parameter(LOGITS.clone())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.said[: len(images)]


def several(balance: str, loss: str = "bce") -> SeveralTasks:
    module = supervised(Given(), TASKS, label_smoothing=0.0, loss=loss, balance=balance)  # type: ignore[arg-type]
    assert isinstance(module, SeveralTasks)
    return module


def slowly() -> tuple[float, float]:
    """The loss of each task, one label after another."""
    known = [(i, j) for i in range(4) for j in range(2) if not math.isnan(LABELS[i, j])]
    one = [float(F.binary_cross_entropy_with_logits(LOGITS[i, j], LABELS[i, j])) for i, j in known]
    kind = [-float(LOGITS[i, 2:].log_softmax(0)[c]) for i, c in ((1, 1), (2, 0))]
    return sum(one) / len(one), sum(kind) / len(kind)


def test_equal_balance_is_the_mean_of_the_tasks() -> None:
    loss, said = several("equal")(torch.zeros(4), LABELS)
    one, kind = slowly()
    assert float(loss.detach()) == pytest.approx((one + kind) / 2, rel=1e-5)
    assert said == {"loss_one": pytest.approx(one, abs=1e-4), "loss_kind": pytest.approx(kind, abs=1e-4)}


def test_uncertainty_is_the_papers_equation_in_log_variances() -> None:
    module = several("uncertainty")
    assert module.log_variances is not None
    with torch.no_grad():
        module.log_variances.copy_(torch.tensor([0.6, -0.8]))
    expected = 0.0
    for each, s in zip(slowly(), (0.6, -0.8), strict=True):
        sigma = math.sqrt(math.exp(s))
        expected += each / (2 * sigma**2) + math.log(sigma)  # arXiv 1705.07115, eq. 7
    assert float(module(torch.zeros(4), LABELS)[0].detach()) == pytest.approx(expected, rel=1e-5)


def test_a_learned_variance_ends_at_its_tasks_loss() -> None:
    """Eq. 7 is lowest where the variance is the loss; the rate gets there in the steps of a short fine-tuning."""
    module = several("uncertainty")
    module.classifier.requires_grad_(False)
    optimizer = torch.optim.AdamW(extra_groups(module))
    assert [group["lr"] for group in optimizer.param_groups] == [LOG_VARIANCE_LR]
    for _ in range(100):
        optimizer.zero_grad()
        module(torch.zeros(4), LABELS)[0].backward()
        optimizer.step()
    assert module.log_variances is not None
    assert module.log_variances.exp().tolist() == pytest.approx(slowly(), rel=0.02)


@pytest.mark.parametrize("balance", ["equal", "uncertainty"])
def test_a_task_without_labels_in_a_batch_takes_no_part(balance: str) -> None:
    labels = LABELS.clone()
    labels[:, 2:] = NAN
    module = several(balance)
    loss, _ = module(torch.zeros(4), labels)
    assert float(loss.detach()) == pytest.approx(slowly()[0] / (1 if balance == "equal" else 2), rel=1e-5)
    loss.backward()
    assert module.classifier.said.grad is not None
    assert (module.classifier.said.grad[:, 2:] == 0).all() and torch.isfinite(module.classifier.said.grad).all()
    if module.log_variances is not None:
        assert module.log_variances.grad is not None and module.log_variances.grad[1] == 0
    assert float(module.plain_loss(LOGITS, labels)) == pytest.approx(slowly()[0], rel=1e-5)


def test_one_task_is_what_it_was() -> None:
    for task in TASKS:
        module = supervised(Given(), [task], label_smoothing=0.1, loss="bce", balance="uncertainty")  # type: ignore[arg-type]
        assert type(module) is Supervised and module.exclusive is task.exclusive and extra_groups(module) == []


def test_asymmetric_loss_is_not_for_classes_among_the_tasks() -> None:
    with pytest.raises(ConfigError, match="loss 'asymmetric' is for findings that are judged each for itself"):
        several("equal", loss="asymmetric")


def test_softmax_leaves_out_rows_that_are_unknown() -> None:
    labels = torch.tensor([[0, 1, 0], [NAN, NAN, NAN], [1, 0, 0], [0, NAN, 0]])
    expected = F.cross_entropy(LOGITS[[0, 2], :3], torch.tensor([1, 0]), label_smoothing=0.1)
    torch.testing.assert_close(cross_entropy(LOGITS[:, :3], labels, 0.1), expected)
    assert float(cross_entropy(LOGITS[:, :3], torch.full((4, 3), NAN), 0.1)) == 0.0


@pytest.mark.parametrize(
    ("given", "completed"),
    [
        ([1, 0, 0], [1, 0, 0]),
        ([1, NAN, NAN], [1, 0, 0]),
        ([NAN, 0, 0], [1, 0, 0]),
        ([0, NAN, NAN], [NAN, NAN, NAN]),
        ([NAN, NAN, NAN], [NAN, NAN, NAN]),
    ],
)
def test_where_one_class_holds_the_others_do_not(given: list[float], completed: list[float]) -> None:
    found = as_classes(np.array([given], np.float32), name="t", scans=["s"])
    np.testing.assert_array_equal(found, np.array([completed], np.float32))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            [1, 1, NAN],
            "tasks.t: s1 has more than one of the classes; with kind exclusive each labeled scan has exactly one",
        ),
        ([0, 0, 0], "tasks.t: s1 has none of the classes"),
    ],
)
def test_labels_that_are_no_classes_are_refused(row: list[float], said: str) -> None:
    with pytest.raises(LabelError) as problem:
        as_classes(np.array([[1, 0, 0], row], np.float32), name="t", scans=["s0", "s1"])
    assert str(problem.value).startswith(said)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`spot.csv`: the first scan of each patient. `kind.csv`: the second scan of every third, one of three classes."""
    folder = tmp_path_factory.mktemp("tasks")
    spot = [f"images/p{i:02d}_0.png,p{i:02d},{i % 2}" for i in range(60)]
    (folder / "spot.csv").write_text("\n".join(["path,patient_id,spot", *spot]))
    kind = [f"images/p{i:02d}_1.png,{','.join(str(int(i % 3 == c)) for c in range(3))}" for i in range(60) if i % 7]
    (folder / "kind.csv").write_text("\n".join(["path,x,y,z", *kind]))
    return folder


def plan_of(files: Path, **changes: object) -> FinetuneConfig:
    tasks = {"one": {"labels": str(files / "spot.csv")}, "kind": {"labels": str(files / "kind.csv")}}
    return build(FinetuneConfig, {"tasks": tasks} | changes)


def test_tables_stand_side_by_side(files: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    table = labels_for(dataset, None, plan_of(files))
    assert table.findings == ("spot", "x", "y", "z") and not table.exclusive
    assert table.tasks == (
        Task(name="one", findings=("spot",), exclusive=False),
        Task(name="kind", findings=("x", "y", "z"), exclusive=True),
    )
    known = ~np.isnan(table.values)
    assert known[:, 0].sum() == 60 and known[:, 1].sum() == sum(i % 7 > 0 for i in range(60))
    assert not (known[:, 0] & known[:, 1]).any(), "the tasks' files are about different scans"
    monkeypatch.setattr(parts_module, "MOST_LABELS", 0)  # too many for folds: the val part calibrates what it can
    parts, patients = split_labeled(dataset, table), dataset.manifest["patient_id"].to_numpy()
    assert len(parts.calibrate) and not set(patients[parts.fit]) & set(patients[parts.calibrate])
    for columns in ([0], [1]):
        assert known[parts.fit][:, columns].any() and known[parts.calibrate][:, columns].any(), "both tasks in both"


def test_verdicts_correct_the_labels_of_a_task(files: Path, dataset: Dataset) -> None:
    """They have a column for another task's finding as well, and are about a few of the scans."""
    before = labels_for(dataset, None, plan_of(files))
    verdicts = files / "verdicts.csv"
    verdicts.write_text("path,spot,x\nimages/p00_0.png,1,\nimages/p01_0.png,0,1\n")
    one = {"labels": [str(files / "spot.csv"), str(verdicts)], "findings": ["spot"]}
    table = labels_for(dataset, None, plan_of(files, tasks={"one": one, "kind": {"labels": str(files / "kind.csv")}}))
    where = [list(dataset.manifest["path"]).index(f"images/p0{i}_0.png") for i in (0, 1)]
    assert before.values[where, 0].tolist() == [0.0, 1.0] and table.values[where, 0].tolist() == [1.0, 0.0]
    others = np.setdiff1d(np.arange(len(table.values)), where)
    np.testing.assert_array_equal(table.values[others], before.values[others])
    assert (table.findings, table.tasks) == (before.findings, before.tasks)
    assert [file.split(" ")[0] for file in table.files] == ["spot.csv", "verdicts.csv", "kind.csv"]


def test_a_patient_who_would_judge_one_task_and_teach_another_is_refused(files: Path, dataset: Dataset) -> None:
    in_val = next(str(path) for path, part in zip(dataset.manifest["path"], dataset.manifest["split"], strict=True)
                  if part == "val" and str(path).endswith("_1.png"))  # fmt: skip
    moved = files / "moved.csv"
    moved.write_text(f"path,x,y,z,split\n{in_val},1,0,0,train\n")
    tasks = {"one": {"labels": str(files / "spot.csv")}, "kind": {"labels": str(moved)}}
    with pytest.raises(LabelError, match=r"puts .* into 'train', the dataset has it in 'val'"):
        labels_for(dataset, None, build(FinetuneConfig, {"tasks": tasks}))


@pytest.mark.parametrize(
    ("tasks", "semi", "labels", "said"),
    [
        ({"one": {}, "two": {}}, "none", None, "tasks: spot is in one and in two; keep it in one of them"),
        ({"one": {}}, "none", "l.csv", "tasks: each names its own labels; leave --labels out. A"),
        ({"one": {"findings": ["spt"]}}, "none", None, "tasks.one: the labels of the dataset has no column 'spt'; did"),
        ({"one": {"kind": "exclusive"}}, "none", None, "tasks.one: classes that exclude each other are two at least"),
        (None, "fixmatch", None, "semi 'fixmatch' does not take these tasks: mixmatch takes one, the others several"),
    ],
)  # fmt: skip
def test_tasks_that_do_not_go_together(
    files: Path, dataset: Dataset, tasks: dict[str, object] | None, semi: str, labels: str | None, said: str
) -> None:
    plan = plan_of(files, semi=semi, **({} if tasks is None else {"tasks": tasks}))
    with pytest.raises(MedtlError) as problem:
        labels_for(dataset, Path(labels) if labels else None, plan)
    assert said in str(problem.value)


def test_a_wrong_key_of_a_task_is_named() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'tasks.lung.finding'; did you mean 'findings'"):
        load(FinetuneConfig, file=None, settings=["tasks.lung.finding=[a]"])
    with pytest.raises(ConfigError, match=r"tasks.lung.kind"):
        load(FinetuneConfig, file=None, settings=["tasks.lung.kind=classes"])


def test_every_batch_mixes_tasks_however_small(files: Path, dataset: Dataset) -> None:
    table = labels_for(dataset, None, plan_of(files))
    rows = split_labeled(dataset, table).fit
    few = rows[~np.isnan(table.values[rows, 0])]
    rows = np.concatenate([few, rows[~np.isnan(table.values[rows, 1])][:2]])
    strata = strata_of(dataset, table, rows, plan_of(files))
    assert strata is not None
    for step in range(5):
        drawn = balanced_rows(strata, step=step, batch_size=8, seed=0)
        assert (~np.isnan(table.values[drawn, 0])).sum() == (~np.isnan(table.values[drawn, 1])).sum() == 4


def test_calibration_is_each_tasks_own(files: Path, dataset: Dataset) -> None:
    table = labels_for(dataset, None, plan_of(files))
    rows = np.arange(len(dataset))
    logits = torch.randn(len(dataset), 4, generator=torch.Generator().manual_seed(0)).double()
    logits[:, 1:] += 3 * torch.from_numpy(np.nan_to_num(table.values[:, 1:]))
    known = {
        "patients": dataset.manifest["patient_id"].to_numpy(dtype=str),
        "shares": dict.fromkeys(table.findings, 0.3),
    }
    both = calibrated_from(logits, table, rows, where="scans", **known)
    for task, columns in zip(table.tasks, ([0], [1, 2, 3]), strict=True):
        alone = type(table)(findings=task.findings, values=table.values[:, columns])
        own = calibrated_from(logits[:, columns], alone, rows, where="scans", **known)
        for finding in task.findings:
            assert both.temperatures[finding] == own.temperatures[finding]
            assert both.thresholds[finding] == own.thresholds[finding]
        assert both.of_task(task) == pytest.approx(np.mean([own.aurocs[finding] for finding in task.findings]))
    assert len({both.temperatures[name] for name in "xyz"}) == 1


def test_two_tasks_become_one_bundle(files: Path, dataset: Dataset, tmp_path: Path) -> None:
    tasks = {"one": {"labels": str(files / "spot.csv")}, "kind": {"labels": str(files / "kind.csv")}}
    (tmp_path / "two.yaml").write_text(
        yaml.safe_dump(
            {"tasks": tasks, "balance": "uncertainty", "encoder": "random", "network": "resnet10-half"}, sort_keys=False
        )
    )
    out = medtl.finetune(
        dataset.folder,
        out=tmp_path / "two",
        config=tmp_path / "two.yaml",
        settings=["strategy=full", "steps=3", "input_px=16"],
    )
    bundle, classifier = read_bundle(out)
    assert bundle.findings == ("spot", "x", "y", "z") and [task.name for task in bundle.tasks] == ["one", "kind"]
    assert [tuple(head.weight.shape) for head in classifier.heads] == [(1, 256), (3, 256)]
    p = medtl.load(out).predict_stored(dataset.pixels(np.arange(9)))
    assert np.allclose(p[:, 1:].sum(axis=1), 1) and p.shape == (9, 4)
    assert bundle.training["task kind"].startswith("one of x, y, z; mean AUROC ")
    rows = split_labeled(dataset, labels_for(dataset, None, plan_of(files))).fit
    assert bundle.training["labeled_scans"] == len(rows)
    report = medtl.evaluate(out, dataset.folder, labels=files / "kind.csv", out=tmp_path / "report")
    content = json.loads((report / "report.json").read_text())
    assert list(content["findings"]) == ["x", "y", "z"] and list(content["tasks"]) == ["kind"]
    mean = np.mean([content["findings"][name]["auroc"]["value"] for name in "xyz"])
    assert content["tasks"]["kind"]["auroc"]["value"] == pytest.approx(mean)
    assert content["tasks"]["kind"]["auroc"]["low"] <= mean <= content["tasks"]["kind"]["auroc"]["high"]
    assert "<th>kind</th>" in (report / "report.html").read_text()
