"""The report of a run: what it says for runs in any state, and that it stands alone."""

import json
import re
import shutil
import threading
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import pytest

from fedf2dg.report import RunRecord, write_report

WriteRun = Callable[..., Path]

VOID = {"meta", "br", "img", "link", "input"}


class Page(HTMLParser):
    """Collects a page's text and elements, and fails on elements that do not close."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(self.source)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.words.append(data)

    @property
    def text(self) -> str:
        """The text a reader sees, with single spaces."""
        return " ".join(" ".join(self.words).split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of each element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


def check_alone(page: Page) -> None:
    """Check that a page fetches nothing, runs nothing, and can be heard as well as seen."""
    outside = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page.source)
    assert not re.search(r"https?:|//\w+\.\w|@import|url\((?!#)", outside)
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "base", "form")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href"):
                assert (value or "").startswith(("data:image/png;", "#"))
    ids = [value for _, attributes in page.elements if (value := attributes.get("id"))]
    assert len(ids) == len(set(ids))
    used = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', page.source)
    assert {first or second for first, second in used} <= set(ids)
    for svg in page.of("svg"):
        assert svg["role"] == "img" and svg["aria-label"]
    assert all(header.get("scope") in ("row", "col") for header in page.of("th"))
    assert all(table.get("aria-label") for table in page.of("table"))


@pytest.fixture(scope="module")
def complete(write_run: WriteRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a complete run with its report."""
    run = write_run(tmp_path_factory.mktemp("run"), failures=((3, 4, "the loss is NaN"),))
    assert write_report(run) == run / "report.html"
    return run


def test_a_complete_run(complete: Path) -> None:
    run = complete
    page = Page(run / "report.html")
    check_alone(page)
    summary = json.loads((run / "summary.json").read_text())
    for stage in ("federated", "distilled", "competed"):
        assert f"{100 * summary['accuracy'][stage]:.1f} %" in page.text
        assert f"{100 * summary['best_on_test'][stage]:.1f} %" in page.text
    gain = 100 * (summary["accuracy"]["distilled"] - summary["accuracy"]["federated"])
    assert f"+{gain:.1f} points" in page.text
    for words in (
        "A classifier of 10 classes (digits), learned from",
        "strategy scaffold",
        "status completed",
        "seed 0",
        "clients 10",
        "31.0 s",
        "generation 20.3 s, distillation 5.1 s",
        "Distillation",
        "Competition",
        "competition round",
        "true class",
        "Common samples",
        "Hard samples of competition round 1",
        "the loss is NaN",
        "rounds so far",
        "dirichlet-alpha 0.05",
        "torch 2.6.0",
        "device cpu",
    ):
        assert words in page.text, words
    assert len(page.of("svg")) == 5
    assert not page.of("p") or all(p.get("class") != "warning" for p in page.of("p"))


def test_every_class_has_its_recall(complete: Path) -> None:
    page = Page(complete / "report.html")
    matrix = RunRecord.read(complete).confusion("distilled")
    assert matrix is not None
    for label, row in enumerate(matrix):
        found = re.search(rf"(?<!\S){label} {sum(row):.0f} ((?:[\d.]+ % ?){{3}})", page.text)
        assert found, label
        assert found[1].split(" % ")[1] == f"{100 * row[label] / sum(row):.1f}"


def test_clients_are_listed_with_what_each_model_does_on_their_images(
    write_run: WriteRun, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", clients=2)
    rows = [
        {"client": 0, "name": "north", "images": 7, "before": 0.5, "stage": 0.6, "kept": 0.55},
        {"client": 1, "name": "<b>south", "images": 9, "before": 0.1, "stage": None, "kept": 0.2},
    ]
    event = {"event": "judgement", "stage": "distilled", "before": "federated", "clients": rows}
    event |= {"gain": 0.034, "standard_error": 0.01, "images": 16, "sentence": "kept: distilled"}
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(event) + "\n")
    page = Page(write_report(run))
    check_alone(page)
    examples = RunRecord.read(run).met.num_examples
    assert f"north {examples[0]:,.0f} 7 50.0 % 60.0 % 55.0 %" in page.text
    assert f"<b>south {examples[1]:,.0f} 9 10.0 % – 20.0 %" in page.text
    assert "+3.4 ± 2.0 points" in page.text


def test_the_images_that_were_measured_on_and_intervals(
    write_run: WriteRun, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run")
    summary = json.loads((run / "summary.json").read_text())
    summary["accuracy"] = {"federated": 0.5, "distilled": 0.9, "competed": 0.51}
    summary["measured"] = {name: {"by": "server", "images": 400} for name in summary["accuracy"]}
    (run / "summary.json").write_text(json.dumps(summary))
    page = Page(write_report(run))
    assert "test images of the server 400" in page.text
    # Wilson's interval of 200 of 400.
    assert "45.1 to 54.9 %" in page.text
    kinds = [cell.get("class") or "" for cell in page.of("td")]
    assert sum("gain" in kind for kind in kinds) == 1  # +1 point of 400 images is none


def test_figures_follow_the_pages_colours(complete: Path) -> None:
    """No white sheet on a dark page: what is drawn in ink or on paper is drawn in the page's."""
    source = (complete / "report.html").read_text("utf-8")
    assert "color-scheme: light dark" in source
    svg = "".join(re.findall(r"<svg.*?</svg>", source, re.DOTALL))
    outside = re.sub(r"var\(--\w+, #[0-9a-f]{6}\)", "", svg)
    assert "var(--ink, #222222)" in svg and "var(--sheet, #ffffff)" in svg
    assert not re.search("#(222222|ffffff|000000)", outside)


def test_guessing_is_drawn(complete: Path) -> None:
    assert "guessing 10.0 %" in Page(complete / "report.html").text


def test_the_report_says_where_the_model_is(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert "There is no folder model/" in Page(write_report(run)).text
    (run / "model").mkdir()
    (run / "model" / "config.json").write_text("{}")
    text = Page(write_report(run)).text
    assert "is in the folder model/ beside this page" in text
    assert "There is no folder model/" not in text


def test_the_same_run_gives_the_same_report_also_in_a_thread(complete: Path) -> None:
    first = (complete / "report.html").read_bytes()
    (complete / "report.html").unlink()
    before = dict(matplotlib.rcParams)
    thread = threading.Thread(target=write_report, args=(complete,))
    thread.start()
    thread.join()
    assert (complete / "report.html").read_bytes() == first
    assert dict(matplotlib.rcParams) == before
    assert not list(complete.glob(".*.partial"))


def test_an_unfinished_run(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(tmp_path, stop_after="round 4")
    with (run / "metrics.jsonl").open("ab") as metrics:
        metrics.write(b'{"event":"round","rou')
    page = Page(write_report(run))
    check_alone(page)
    assert "Status: unfinished." in page.text
    assert "status unfinished" in page.text
    last = RunRecord.read(run).measurements()[-1]
    assert last.position == 4
    assert f"{100 * last.accuracy:.1f} % federated" in page.text
    for nothing in ("No pseudo images stored.", "No confusion matrix measured yet."):
        assert nothing in page.text


def test_a_run_that_just_started(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(tmp_path, stop_after="round 0")
    (run / "metrics.jsonl").write_bytes(b"")
    page = Page(write_report(run))
    check_alone(page)
    assert "No accuracy measured yet." in page.text
    assert "Not reported yet." in page.text
    assert "Not measured in this run." in page.text


def test_a_finished_run_that_measured_nothing_on_the_way(
    write_run: WriteRun, tmp_path: Path
) -> None:
    """Such as one without rounds: nothing more is going to be measured."""
    run = write_run(tmp_path, stop_after="train")
    (run / "metrics.jsonl").write_bytes(b"")
    page = Page(write_report(run))
    assert "status completed" in page.text
    assert "measured yet" not in page.text
    assert "No confusion matrix was measured." in page.text


def test_a_run_of_the_training_alone_with_uniform_labels(
    write_run: WriteRun, tmp_path: Path
) -> None:
    run = write_run(tmp_path, stop_after="train", uniform_labels=True)
    page = Page(write_report(run))
    check_alone(page)
    assert "status completed" in page.text
    assert "Not part of this run: distilled, competed." in page.text
    assert "Label counts were not sent" in page.text
    assert "10 clients with" in page.text
    assert "None: every reply that came was used." in page.text
    assert "Not measured: distilled." in page.text
    assert "Competition" not in page.text


def test_a_hundred_clients_and_classes(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(tmp_path, clients=100, classes=100, rounds=40, epochs=3, competition_rounds=3)
    page = Page(write_report(run))
    check_alone(page)
    assert "12 of 100 clients and 12 of 100 classes" in page.text
    assert "100 clients, 100 classes" in page.source
    assert len(page.source) < 1_000_000


def test_one_client_one_class_one_round(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(tmp_path, clients=1, classes=1, rounds=1, epochs=1, competition_rounds=1)
    check_alone(Page(write_report(run)))


def test_text_from_outside_is_escaped(write_run: WriteRun, tmp_path: Path) -> None:
    evil = '</td><script>alert("x")</script><img src=http://evil.example onerror=alert(1)>&amp;'
    run = write_run(
        tmp_path,
        rounds=2,
        epochs=2,
        failures=((1, 0, evil), (2, 3, "a\u202eb\x00c\nd"), (2, 4, "x" * 100_000)),
        class_names=(*(f"<b>{c}$" for c in range(9)), "\x01&lt;"),
        configuration={"dataset": "<script>", "data-dir": evil, "strategy": "'\"<"},
    )
    page = Page(write_report(run))
    assert not page.of("script") and not page.of("img")
    assert evil in "".join(page.words)
    assert "a\ufffdb\ufffdc\nd" in page.source
    assert "<b>0$" in page.text
    assert "x" * 1000 not in page.source
    ids = [value for _, attributes in page.elements if (value := attributes.get("id"))]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    "broken",
    [
        {"metrics.jsonl": b'{"event":"start"}\nbroken\n{"event":"end"}\n'},
        {
            "summary.json": b'{"status": "comp',
            "config.json": b"[]",
            "pseudo_data/common-c0-b0.safetensors": b"broken",
        },
    ],
)
def test_a_broken_file_is_named_and_the_rest_is_shown(
    write_run: WriteRun, tmp_path: Path, broken: dict[str, bytes]
) -> None:
    run = write_run(tmp_path, rounds=2, epochs=2, stop_after="distillation", uniform_labels=True)
    for name, content in broken.items():
        (run / name).write_bytes(content)
    page = Page(write_report(run))
    check_alone(page)
    assert page.text.count("could not be read") == len(broken)
    assert "learned from" in page.text


def test_values_of_a_wrong_kind_do_not_stop_the_report(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(tmp_path, stop_after="train")
    events = [
        {"event": "clients", "num_examples": "many", "label_counts": [[1], [1, 2]]},
        {"event": "round", "round": None, "accuracy": "high", "failures": ["broken", None]},
        {"event": "round", "phase": "competition", "accuracy": None, "failures": 3},
        {"event": "distillation", "competition_round": None, "epoch": "x", "accuracy": 2},
        {"event": "generation", "budgets": [None, 3], "images": None},
        {"event": "evaluation", "stage": ["federated"], "confusion": [[1, 2]]},
        {},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (run / "summary.json").write_text('{"accuracy": 3, "seconds": [], "clients": {}}')
    check_alone(Page(write_report(run)))


def test_a_directory_of_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not the directory of a run"):
        write_report(tmp_path)


def test_a_stage_run_again_replaces_what_it_wrote_before(
    write_run: WriteRun, tmp_path: Path
) -> None:
    run = write_run(tmp_path, rounds=2, epochs=2, stop_after="distillation")
    again = {"event": "distillation", "competition_round": 0, "epoch": 2, "accuracy": 0.5}
    with (run / "metrics.jsonl").open("a") as metrics:
        metrics.write(json.dumps(again) + "\n")
    measured = [m for m in RunRecord.read(run).measurements() if m.stage == "distillation"]
    assert [m.position for m in measured] == [1, 2]
    assert measured[-1].accuracy == 0.5


def test_competition_rounds_stand_one_after_the_other(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(tmp_path, rounds=2, epochs=3, competition_rounds=2)
    measured = [m for m in RunRecord.read(run).measurements() if m.stage == "competition"]
    assert [m.position for m in measured] == [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]


def test_steps_that_nobody_measured_take_no_place(write_run: WriteRun, tmp_path: Path) -> None:
    """Clients measure no epoch of a distillation, but the round before it."""
    run = write_run(tmp_path, rounds=2, epochs=3, competition_rounds=2)
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    for event in events:
        if event["event"] == "distillation":
            event["accuracy"] = None
    (run / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events), "utf-8")
    measured = [m for m in RunRecord.read(run).measurements() if m.stage == "competition"]
    assert [m.position for m in measured] == [1.0, 2.0]


def test_what_was_left_out_is_on_the_page(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(tmp_path)
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    for told, shown in ((["calibration, for <reasons>"], 1), (5, 0)):
        (run / "summary.json").write_text(json.dumps(summary | {"left_out": told}), "utf-8")
        text = Page(write_report(run)).text
        assert text.count("Left out: calibration, for <reasons>.") == shown
        assert "could not be made" not in text


def test_a_run_that_ended_promises_no_more(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(tmp_path)
    (run / "metrics.jsonl").write_text("", "utf-8")
    text = Page(write_report(run)).text
    assert "No confusion matrix was measured" in text
    assert "yet" not in text


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [("label-counts", "uniform", "label-counts=uniform"), ("place", "client", "place=client")],
)
def test_why_label_counts_are_not_shown(
    write_run: WriteRun, tmp_path: Path, key: str, value: str, reason: str
) -> None:
    run = write_run(tmp_path, stop_after="train", uniform_labels=True)
    content = json.loads((run / "config.json").read_text("utf-8"))
    content["configuration"]["generation.place"] = "server"
    content["configuration"]["label-counts"] = "uploaded"
    content["configuration"]["generation.place" if key == "place" else key] = value
    (run / "config.json").write_text(json.dumps(content), "utf-8")
    page = Page(write_report(run))
    (sentence,) = re.findall(r"Label counts were not sent to the server \(([^)]*)\)", page.text)
    assert reason in sentence


def test_a_picture_that_cannot_be_drawn_leaves_the_rest_of_the_report(
    complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app_log
) -> None:
    def broken(*given: object, **named: object) -> None:
        raise RuntimeError("no font")

    run = tmp_path / "run"
    shutil.copytree(complete, run)
    monkeypatch.setattr("fedf2dg.report.figures.curves", broken)
    page = Page(write_report(run))
    assert "The accuracy over the run could not be made" in page.text
    assert "What the clients hold" in page.text and "Classes, before and after" in page.text
    assert (
        "the accuracy over the run in the report could not be made" in app_log.text
        and "no font" in app_log.text
    )


def test_sites_are_called_by_their_names(
    write_run: WriteRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedf2dg.report import figures

    run = write_run(tmp_path)
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    (clients,) = [event for event in events if event["event"] == "clients"]
    clients["names"] = [f"clinic <{number}>" for number in range(len(clients["num_examples"]))]
    first = next(event for event in events if event["event"] == "round")
    first["failures"] = [{"client": 2, "reason": "no reply in time"}]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, events)) + "\n", "utf-8")
    rows: list[object] = []
    draw = figures.label_counts
    monkeypatch.setattr(figures, "label_counts", lambda *a: rows.append(a[2]) or draw(*a))
    page = Page(write_report(run))
    assert rows == [tuple(clients["names"])]
    assert "clinic <2> 1 1 of" in page.text


def test_a_deployment_shows_no_key_of_a_simulation(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(tmp_path)
    assert "dirichlet-alpha" in Page(write_report(run)).text
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    (clients,) = [event for event in events if event["event"] == "clients"]
    clients["simulated"] = False
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, events)) + "\n", "utf-8")
    text = Page(write_report(run)).text
    assert "dirichlet-alpha" not in text and "local-epochs" in text
