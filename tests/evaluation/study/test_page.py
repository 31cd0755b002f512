"""`study.json` and `study.html` from made-up logits, and the page in a real browser."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medtl.evaluation.study.answers import answers
from medtl.evaluation.study.page import render_page
from medtl.evaluation.study.report import build_report, write_report
from medtl.evaluation.study.results import Fitted, Mark, Measured, StartInfo

CHROMIUM = Path("/usr/bin/chromium")
EVIL = "<b>run & $x$</b>"


def measured(
    *, starts=("random", EVIL, "imagenet"), findings=("nodule", "effusion"), seeds=2, learned="a", better=(EVIL,)
) -> Measured:
    """Some starts are clearly better, the others alike; labels help. All but the first have learned something."""
    random = np.random.default_rng(0)
    y = (random.random((120, len(findings))) < 0.4).astype(float)
    fits = {}
    for start in starts:
        for labels, n in (("10 per class", 20), ("30 per class", 60)):
            for seed in range(seeds):
                skill = 0.4 + n / 100 + 1.5 * (start in better)
                marks = tuple(Mark(step=step, minutes=step / 100, aurocs=(0.5, 0.6)) for step in (0, 7, 50))
                fits[start, labels, seed] = Fitted(
                    start=start, labels=labels, seed=seed, n_labels=n, n_repeated=0, strategy="full", steps=50,
                    minutes=0.5, marks=marks, logits=skill * y + random.normal(size=y.shape), logits_file="fits/x.npy",
                )  # fmt: skip
    info = [
        StartInfo(
            name=each, origin=each, learned={"random": "nothing", "imagenet": "ImageNet"}.get(each, learned),
            network="resnet", input_px=28, pretraining_minutes=(0.0, 12.5, None)[i],
        )
        for i, each in enumerate(starts)
    ]  # fmt: skip
    return Measured(
        findings=findings, exclusive=False, y=y, patients=np.arange(120) // 2, starts=tuple(info),
        labels=("10 per class", "30 per class"), seeds=tuple(range(seeds)), fits=fits, context={"dataset": "d"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_report(build_report(measured()), folder)
    return folder


def test_study_json_holds_every_fit_point_and_difference(written) -> None:
    content, study = json.loads((written / "study.json").read_text()), measured()
    assert (content["format"], content["base"], content["n_test_scans"], content["n_test_patients"]) == (
        1,
        "random",
        120,
        60,
    )
    assert len(content["fits"]) == 12 and len(content["points"]) == 6 and len(content["differences"]) == 6
    for each in content["fits"]:
        logits = study.fits[each["start"], each["labels"], each["seed"]].logits
        for f, name in enumerate(study.findings):
            found = each["findings"][name]["auroc"]
            assert found["value"] == pytest.approx(roc_auc_score(study.y[:, f], logits[:, f]))
            assert found["low"] < found["value"] < found["high"]
    pairs = {(each["start"], each["against"]): each["verdict"] for each in content["differences"]}
    assert pairs == {
        ("imagenet", "random"): "no benefit shown", (EVIL, "random"): "benefit shown",
        (EVIL, "imagenet"): "benefit shown",
    }  # fmt: skip
    best = next(each for each in content["differences"] if each["start"] == EVIL)
    assert best["better_draws"] == best["draws"] == 2 and best["times_the_labels"] == {"times": 3.0, "beyond": "more"}
    assert content["differences"][0]["times_the_labels"] is None, "no difference was shown, so no labels were saved"


def test_a_run_from_imagenet_is_judged_against_imagenet_first() -> None:
    """As good as the ImageNet that it went on from, and both far better than random weights."""
    study = measured(starts=("random", "run", "imagenet"), better=("run", "imagenet"), learned="ImageNet > simclr")
    imagenet, run = answers(build_report(study))
    assert (imagenet.against, imagenet.verdict, imagenet.included) == ("random", "benefit shown", ())
    assert (run.start, run.against, run.verdict) == ("run", "imagenet", "no benefit shown")
    first, _, third, _ = run.sentences
    assert first.startswith("With 20 labels no benefit of run over ImageNet was shown: ")
    assert third.startswith("With what ImageNet brings: With 20 labels run is worth +")
    text = re.sub(r"<[^>]+>|\s+", " ", render_page(build_report(study)))
    assert "run against ImageNet, from which it went on no benefit over ImageNet shown" in re.sub(" +", " ", text)


def test_a_run_from_imagenet_without_imagenet_among_the_starts_is_not_credited_alone() -> None:
    study = measured(starts=("random", "run"), better=("run",), learned="ImageNet > simclr")
    (run,) = answers(build_report(study))
    assert run.against == "random" and run.sentences[-1] == (
        "run went on from ImageNet, which is not among the starts: how much of this is ImageNet's cannot be told. Add "
        "imagenet to --starts."
    )


def test_a_run_that_began_elsewhere_is_judged_against_random_weights() -> None:
    for learned in ("simclr on 100 scans", "ImageNet"):
        (_, run) = answers(build_report(measured(starts=("random", "imagenet", "run"), learned=learned)))
        assert (run.against, run.included, run.note) == ("random", (), "")


def test_savings_stand_only_beside_differences_that_were_shown(written) -> None:
    rows = re.findall(r"draws</td><td>(.*?)</td></tr>", (written / "study.html").read_text())
    assert [re.sub("<.*?>", " ", each).split(" times")[0] for each in rows] == [
        "not shown", "not shown", "&gt; 3.0", "&gt; 1.0", "&gt; 3.0", "&gt; 1.0"
    ]  # fmt: skip


def test_steps_that_are_too_few_are_said() -> None:
    study = measured(starts=("random", "imagenet"))
    assert not any("fewer steps" in text for text in build_report(study).caveats)
    fits = {key: replace(fit, usual_steps=600) if key[0] == "random" else fit for key, fit in study.fits.items()}
    assert build_report(replace(study, fits=fits)).caveats[0] == (
        "The settings ask for fewer steps than fine-tuning takes by default (random weights 600). A start that learns "
        "slowly, above all random weights, is made to look worse than it is: leave steps out of --set to compare "
        "starts as they would be used."
    )


def test_few_test_scans_and_draws_are_said() -> None:
    study = measured()
    y = study.y.copy()
    y[np.flatnonzero(y[:, 0] == 1)[7:], 0] = np.nan
    text = " ".join(build_report(Measured(**{**vars(study), "y": y})).caveats)
    assert "nodule: the test part has only 7 scans with the finding" in text
    assert "Only 2 draws of labels." in text and "6 comparisons at 95 % each" in text


def test_without_random_weights_the_first_start_is_the_base() -> None:
    report = build_report(measured(starts=("imagenet", "run"), seeds=1))
    assert report.base == "imagenet" and {each.against for each in report.gains} == {"imagenet"}


def test_one_start_and_no_interval_still_have_a_page(tmp_path) -> None:
    study = measured(starts=("random",), seeds=1)
    write_report(build_report(Measured(**{**vars(study), "patients": np.zeros(120)})), tmp_path)
    content = json.loads((tmp_path / "study.json").read_text())
    assert content["differences"] == [] and content["points"][0]["auroc"]["low"] is None
    assert "Only one start was studied" in (tmp_path / "study.html").read_text()


def test_the_page_is_complete_in_itself_and_escapes_names(written) -> None:
    text = (written / "study.html").read_text()
    assert EVIL not in text and "&lt;b&gt;run &amp; $x$&lt;/b&gt;" in text
    assert "http" not in text.replace("http://www.w3.org", "").replace("http-equiv", "")


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs the Debian package chromium")
def test_the_page_opens_in_a_browser(written) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        try:
            page = browser.new_page(viewport={"width": 1100, "height": 800})
            asked, problems = [], []
            page.on("request", lambda request: asked.append(request.url))
            page.on("console", lambda message: problems.append(message.text))
            page.goto((written / "study.html").as_uri())
            assert page.locator("h1").inner_text() == "Did pretraining help?"
            assert page.locator(".answer h3").all_inner_texts() == [
                "ImageNet against random weights no benefit over random weights shown",
                f"{EVIL} against random weights benefit over random weights shown",
            ]
            wide = page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            assert wide and page.locator("figure svg").count() == 1 + 2 + 2
            assert len(asked) == 1 and not problems
        finally:
            browser.close()


def test_minutes_that_are_not_known_are_not_zero(written) -> None:
    text = (written / "study.html").read_text()
    assert "not known" in text and "12 min 30 s" in text
