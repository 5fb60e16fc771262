"""The measurement on one page: Markdown from the record."""

from typing import Any

from .parts import SHARES


def markdown(record: dict[str, Any]) -> str:
    """Return all that was measured so far, a section for each part.

    Parameters
    ----------
    record : dict
        What ``gpu.json`` holds.
    """
    sections = [_head(record), _overview(record)]
    for name, part in record["parts"].items():
        lines = [f"## {name}", "", f"{part['status']}, {part['seconds']:.0f} s"]
        if part["error"]:
            lines += ["", "```text", part["error"], "```"]
        for result in part["results"]:
            lines += ["", *_result(result)]
        sections.append("\n".join(lines))
    return "\n\n".join(sections) + "\n"


def _head(record: dict[str, Any]) -> str:
    facts = [result for part in record["parts"].values() for result in part["results"]]
    found = next((each for each in facts if each["stage"] == "machine"), None)
    lines = [f"# GPU measurement of {record['time']}, size {record['size']}", ""]
    if found is not None:
        known = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
        lines += [known, ""]
        lines += ["| precision | a large matrix product reaches |", "|---|---|"]
        lines += [
            f"| {precision} | {rate / 1e12:.2f} TFLOP/s |"
            for precision, rate in found["ceilings"].items()
        ]
    return "\n".join(lines)


def _overview(record: dict[str, Any]) -> str:
    """Return a row for every part: what it found, or why there is no figure."""
    lines = ["| part | outcome |", "|---|---|"]
    for name in SHARES:
        part = record["parts"].get(name)
        if part is None:
            outcome = "**not measured**: not reached"
        else:
            found = "; ".join(filter(None, map(_in_short, part["results"])))
            why = "" if part["status"] == "done" else f" ({part['status']})"
            outcome = (found or "**not measured**") + why
        lines.append(f"| {name} | {outcome} |")
    return "\n".join(lines)


def _in_short(result: dict[str, Any]) -> str:
    """Return a result's figures in a few words; empty where the section says it better."""
    if "variants" in result:
        best = min(result["variants"], key=lambda variant: variant["median"])
        return (
            f"{result['setup']}: {best['name']}, {1e3 * best['median']:.3g} ms a {result['unit']}, "
            f"{best['ratio']:.2f} times as fast as {result['variants'][0]['name']}"
        )
    if result["stage"] == "tests":
        return ", ".join(f"{n} {outcome}" for outcome, n in result["counts"].items())
    if result["stage"] == "side by side":
        return f"{result['processes']} processes: {result['steps_per_second']:.0f} steps a second"
    if result["stage"] == "budgets":
        return f"{result['way']}: {result['seconds']['second']:.2f} s"
    if result["stage"] == "preset":
        known = {k: v for k, v in result["accuracy"].items() if v is not None}
        return ", ".join(f"{stage} {value:.1%}" for stage, value in known.items())
    return "found" if result["stage"] == "machine" else ""


def _result(result: dict[str, Any]) -> list[str]:
    """Return one result's lines, by what it holds."""
    lines = []
    if "variants" in result:
        lines += [f"{result['setup']}, seconds of one {result['unit']}", ""]
        lines += ["| way | median | from | to | first call | ratio | of the ceiling |"]
        lines += ["|---|---|---|---|---|---|---|"]
        lines += [_variant(variant, result) for variant in result["variants"]]
    elif result["stage"] == "tests":
        lines += [", ".join(f"{n} {outcome}" for outcome, n in result["counts"].items())]
        if result["output"]:
            lines += ["", "```text", result["output"].rstrip(), "```"]
    elif result["stage"] == "side by side":
        lines += [f"{_in_short(result)}, {result['setup']}"]
    elif result["stage"] == "budgets":
        seconds = result["seconds"]
        lines += [
            f"{result['way']}: {len(result['budgets'])} models; "
            f"{'compiled' if result['compiled'] else 'not compiled'}; "
            f"first {seconds['first']:.2f} s, then {seconds['second']:.2f} s"
        ]
        for when in ("engine", "closed"):
            lines += _memory(result[f"{when}_memory"], f"{when}: ")
    elif result["stage"] == "preset":
        lines += [f"{result['how']}, {result['data']}, {result['settings']}", ""]
        lines += ["| stage | accuracy |", "|---|---|"]
        lines += [
            f"| {stage} | {value:.2%} |"
            for stage, value in result["accuracy"].items()
            if value is not None
        ]
        taken = {name: value for name, value in result["seconds"].items() if value is not None}
        lines += ["", ", ".join(f"{name} {value:.1f} s" for name, value in taken.items())]
    return lines + _memory(result.get("memory", {}), "after it: ")


def _variant(variant: dict[str, Any], result: dict[str, Any]) -> str:
    ceiling = result["ceilings"].get(variant["precision"], 0.0)
    share = ""
    if ceiling and result["operations"]:
        share = f"{result['operations'] / variant['median'] / ceiling:.0%}"
    return (
        f"| {variant['name']} | {variant['median']:.4g} | {min(variant['seconds']):.4g} "
        f"| {max(variant['seconds']):.4g} | {variant['first']:.1f} | {variant['ratio']:.2f} "
        f"| {share} |"
    )


def _memory(found: dict[str, int], when: str) -> list[str]:
    if not found:
        return []
    figures = ", ".join(f"{name} {size / 1e9:.2f} GB" for name, size in found.items())
    return ["", f"{when}GPU memory {figures}"]
