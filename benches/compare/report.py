"""The table, as Markdown and as JSON."""

import json

BEGIN, END = "<!-- begin of the results -->", "<!-- end of the results -->"


def number(value):
    if value is None:
        return ""
    for limit, digits in ((100, 0), (10, 1), (1, 2)):
        if abs(value) >= limit:
            return f"{value:,.{digits}f}"
    return f"{value:.3f}"


def verdict(line):
    if line["skipped"]:
        return f"skipped: {line['skipped']}"
    return {True: "met", False: "**missed**", None: ""}[line["met"]]


def row(line):
    unit = f" {line['unit']}" if line["unit"] else ""
    measured = number(line["measured"]) + unit if line["measured"] is not None else ""
    against = f"{line['against']}: {number(line['reference'])}{unit}" if line["against"] else ""
    ratio = f"{number(line['ratio'])}x" if line["ratio"] is not None else ""
    work = f"{line['work']} ({line['note']})" if line["note"] else line["work"]
    return f"| {work} | {measured} | {against} | {ratio} | {line['goal'].strip()} | {verdict(line)} |"


def markdown(results):
    about = results["about"]
    lines = [
        f"{about['date']}, commit `{about['commit']}`, {about['machine']['cpu']}, {about['machine']['cores']} cores, "
        f"{about['machine']['memory_gib']} GiB, Linux {about['machine']['kernel']}.",
        "",
        "Versions: " + "; ".join(f"{name} {version}" for name, version in about["versions"].items()) + ".",
        "",
        f"Load of the last minute before and after: {about['load_before'][0]}, {about['load_after'][0]}. "
        f"Mode: {about['mode']}, profile `{about['profile']}`, {about['minutes']} minutes.",
        "",
        "| Work | ssh-mcp | Beside it | Ratio | Goal | |",
        "|---|---|---|---|---|---|",
        *(row(line) for line in results["lines"]),
    ]
    for plot in results.get("plots", []):
        lines += ["", f"![{plot['title']}](performance/{plot['file']})"]
    return "\n".join(lines) + "\n"


def write(results, docs):
    """results.json, and the table between the markers of PERFORMANCE.md."""
    folder = docs / "performance"
    folder.mkdir(exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    rendered(docs, False)


def rendered(docs, check):
    """Rewrites the page from its results, or says with its status whether it fits them."""
    results = json.loads((docs / "performance" / "results.json").read_text())
    page = docs / "PERFORMANCE.md"
    text = page.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    current = f"{head}{BEGIN}\n\n{markdown(results)}\n{END}{tail}"
    if check:
        return 0 if current == text else "docs/PERFORMANCE.md does not fit docs/performance/results.json: benches/run --render"
    page.write_text(current)
    return 0
