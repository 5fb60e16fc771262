"""Of Flower's log a user sees what the run says, and no more."""

from fedf2dg.simulation.flower_engine import ReadableLog


def shown(*lines: str) -> list[str]:
    readable = ReadableLog()
    return [text for text in map(readable, lines) if text is not None]


def test_information_loses_level_and_colour_and_warnings_keep_their_level() -> None:
    warning = "WARNING :   client 3 dropped: NaN"
    assert shown("\x1b[92mINFO \x1b[0m:      federated round 1", warning) == [
        "federated round 1",
        "WARNING: client 3 dropped: NaN",
    ]


def test_what_every_process_finds_in_the_data_is_said_once() -> None:
    """Each process reads the same data set; a client that fails twice is told twice."""
    readable = ReadableLog(["the data mixes grey and colour"])
    lines = [
        "WARNING :   the data mixes grey and colour",
        "(ClientAppActor pid=7) \x1b[93mWARNING \x1b[0m:   the data mixes grey and colour",
        "(ClientAppActor pid=7) WARNING :   few images",
        "(ClientAppActor pid=8, ip=10.0.0.2) WARNING :   few images",
        "WARNING :   client 3 dropped: NaN",
        "WARNING :   client 3 dropped: NaN",
    ]
    assert [text for text in map(readable, lines) if text] == [
        "WARNING: few images",
        "WARNING: client 3 dropped: NaN",
        "WARNING: client 3 dropped: NaN",
    ]


def test_the_end_of_ray_s_actors_does_not_follow_the_report_s_path() -> None:
    """Flower logs it as a warning of each actor, sometimes behind the last line of the run."""
    lines = ["INFO :      report: run/report.html"]
    ending = "\x1b[93mWARNING \x1b[0m:   Manually terminating ClientAppActor"
    assert shown(*lines, f"(ClientAppActor pid=7) {ending}", ending) == ["report: run/report.html"]


def test_an_error_s_block_is_left_out_until_the_next_level() -> None:
    lines = ["ERROR :   ClientApp failed", "Traceback (most recent call last):", '  File "a.py"']
    assert shown(*lines, "INFO :      going on") == ["going on"]
