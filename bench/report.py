#!/usr/bin/env python3
"""Medians of runs and how the tools compare: report.py RUNS.jsonl RESULTS.json DATA

Writes a Markdown table to standard output and everything to RESULTS.json.
"""
import json
import os
import statistics
import sys

MIB = 2**20
# A quantity, how it is computed from a run, and how it is shown.
QUANTITIES = [
    ("wall", "wall s", lambda run: run["wall"], "{:.2f}"),
    ("sync", "then sync s", lambda run: run["sync"], "{:.2f}"),
    ("cpu", "CPU s", lambda run: run["user"] + run["sys"], "{:.2f}"),
    ("server", "server CPU s", lambda run: run["server"], "{:.2f}"),
    ("rss", "peak RSS MiB", lambda run: run["rss"] / MIB, "{:.0f}"),
    ("read", "read MiB", lambda run: run["read"] / MIB, "{:.0f}"),
    ("added", "added MiB", lambda run: run["added"] / MIB, "{:.1f}"),
    ("repository", "repository MiB", lambda run: run["repository"] / MIB, "{:.1f}"),
]
TOOLS = ["lastgood", "pgbackrest"]


def main():
    source, target, data = sys.argv[1:]
    with open(source) as file:
        runs = [json.loads(line) for line in file]
    with open(os.path.join(os.path.dirname(source), "versions")) as file:
        versions = file.read().strip()
    result = {"data": data, "versions": versions, "runs": runs, "medians": {}, "ratios": {}}
    print(f"\nData: {data}. {versions}. Medians; in parentheses the smallest and largest wall time.\n")
    print("| | " + " | ".join(title for _, title, _, _ in QUANTITIES) + " |")
    print("|---" * (len(QUANTITIES) + 1) + "|")
    for verb in dict.fromkeys(run["verb"] for run in runs):
        medians = {}
        for tool in TOOLS:
            chosen = [run for run in runs if (run["tool"], run["verb"]) == (tool, verb)]
            if not chosen:
                continue
            medians[tool] = {key: statistics.median(map(value, chosen)) for key, _, value, _ in QUANTITIES}
            cells = [form.format(medians[tool][key]) for key, _, _, form in QUANTITIES]
            walls = [run["wall"] for run in chosen]
            cells[0] += f" ({min(walls):.2f}-{max(walls):.2f})"
            mark = " (other load beside it)" if any(run["noisy"] for run in chosen) else ""
            print(f"| {tool} {verb}{mark} | " + " | ".join(cells) + " |")
        result["medians"][verb] = medians
        if len(medians) < len(TOOLS):
            continue
        ours, theirs = (medians[tool] for tool in TOOLS)
        ratios = {key: ours[key] / theirs[key] if theirs[key] > 0.005 else None for key in ours if key != "sync"}
        cells = [f"{ratios[key]:.2f}" if ratios.get(key) is not None else "" for key, _, _, _ in QUANTITIES]
        print(f"| ratio, {verb} | " + " | ".join(cells) + " |")
        result["ratios"][verb] = ratios
    with open(target, "w") as file:
        json.dump(result, file, indent=1)


main()
