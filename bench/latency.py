#!/usr/bin/env python3
"""How long transactions took, from pgbench's logs (`-l`): latency.py FOLDER

Files are called BESIDE.RUN.PID; a line's third field is the latency in microseconds, schedule lag included.
"""
import collections
import os
import sys


def main():
    found = collections.defaultdict(list)
    for name in os.listdir(sys.argv[1]):
        with open(os.path.join(sys.argv[1], name)) as file:
            found[name.split(".")[0]].extend(int(line.split()[2]) for line in file)
    print("\n| beside | transactions | p50 ms | p95 ms | p99 ms | p99.9 ms | most ms |\n|---|---|---|---|---|---|---|")
    for beside in ("none", "lastgood", "gentle", "pgbackrest"):
        times = sorted(found[beside])
        at = [times[min(len(times) - 1, int(len(times) * share))] / 1000 for share in (0.5, 0.95, 0.99, 0.999, 1)]
        print(f"| {beside} | {len(times)} | " + " | ".join(f"{one:.2f}" for one in at) + " |")


main()
