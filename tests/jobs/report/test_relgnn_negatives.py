"""RelGNN's negatives on the night's page: the last epoch's figures, hostile words, a night without training."""

from __future__ import annotations

from pathlib import Path

from tests.jobs.report import night
from tests.jobs.report.test_write_report import HOSTILE, report


def section(root: Path, **figures: object) -> str:
    night.write_night(root, 40)
    text = night.CONFIG.format(root=root / "data").replace("[transe, kqgc_mean]", "[transe, kqgc_mean, relgnn]")
    (root / "night.yaml").write_text(text, encoding="utf-8")
    night.put(root, "finetune_relgnn", warm=0, rows_in=900, **figures)
    html = report(root)
    return html[(start := html.index('<section id="negatives">')) : html.index("</section>", start)]


def test_the_last_epochs_figures_stand_in_words_and_all_in_charts(tmp_path: Path) -> None:
    history = [{"epoch": n, "loss": 1.0, "negative_gap": 0.5 - n / 10, "negative_above": 0.1 + n / 8,
                "negative_held_out": 0.011 + n / 50} for n in range(3)]  # fmt: skip
    shown = section(tmp_path, history=history, sampler=HOSTILE[0])
    for said in ("probability 0.300 above", "35.0", "5.1", "By epoch: probability of the true edge less"):
        assert said in shown, said
    assert shown.count("<svg") == 3 and "<script>" not in shown and HOSTILE[0] not in shown


def test_a_night_without_training_says_so(tmp_path: Path) -> None:
    for number, figures in enumerate(({"history": []}, {"history": [{"epoch": 0, "loss": 1.0}]}, {})):
        shown = section(tmp_path / str(number), sampler="asa", **figures)
        assert "<code>finetune_relgnn</code> ran and recorded none." in shown and "<svg" not in shown
