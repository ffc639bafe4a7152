"""Plays PostgreSQL's archiver, and times a recovery; called by bench/wal."""

import json
import os
import resource
import statistics
import subprocess
import sys
import time


def spent():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def of_user(user_processes):
    """CPU seconds of processes that run on by themselves, such as pgBackRest's asynchronous ones."""
    ticks = 0
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{process}/stat") as stat:
                name, rest = stat.read().rsplit(")", 1)
        except OSError:
            continue
        if name.split("(", 1)[1] in user_processes:
            fields = rest.split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def note(path, **facts):
    with open(path, "a") as out:
        out.write(json.dumps(facts) + "\n")


def push(tool, data, command, runs):
    status = os.path.join(data, "pg_wal", "archive_status")
    segments = sorted(os.listdir(os.path.join(data, "pg_wal")))
    segments = [name for name in segments if name != "archive_status"]
    before, began = spent(), time.monotonic()
    for name in segments:
        ready = os.path.join(status, name + ".ready")
        if not os.path.exists(ready):
            continue
        line = command.replace("%p", "pg_wal/" + name).replace("%f", name)
        subprocess.run(["/bin/sh", "-c", line], cwd=data, check=True)
        os.rename(ready, os.path.join(status, name + ".done"))
    wall = time.monotonic() - began
    time.sleep(0.5)
    cpu = spent() - before + of_user({"pgbackrest"})
    note(runs, what="push", tool=tool, wall=wall, cpu=cpu, segments=len(segments))


def replay(tool, data, programs, runs):
    before, began = spent(), time.monotonic()
    log = os.path.join(data, "replay.log")
    with open(log, "w") as out:
        server = subprocess.Popen([os.path.join(programs, "postgres"), "-D", data], stdout=out, stderr=out, cwd=data)
    while True:
        with open(log) as text:
            said = text.read()
        if "archive recovery complete" in said or server.poll() is not None:
            break
        time.sleep(0.02)
    wall = time.monotonic() - began
    subprocess.run([os.path.join(programs, "pg_ctl"), "-D", data, "-m", "immediate", "-w", "stop"], stdout=subprocess.DEVNULL)
    server.wait()
    if "archive recovery complete" not in said:
        sys.exit(f"{tool}: the recovery failed, see {log}")
    note(runs, what="fetch and replay", tool=tool, wall=wall, cpu=spent() - before)


def report(runs):
    with open(runs) as lines:
        runs = [json.loads(line) for line in lines]
    print("| work | tool | wall s | CPU s | wall to pgBackRest | wall to cp |")
    print("|---|---|---:|---:|---:|---:|")
    for what in ["push", "fetch and replay"]:
        median = {}
        for tool in ["lastgood", "pgbackrest", "cp"]:
            own = [run for run in runs if (run["what"], run["tool"]) == (what, tool)]
            median[tool] = [statistics.median(run[key] for run in own) for key in ("wall", "cpu")]
        for tool, (wall, cpu) in median.items():
            ratios = [wall / median[other][0] for other in ("pgbackrest", "cp")]
            print(f"| {what} | {tool} | {wall:.2f} | {cpu:.2f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")


if __name__ == "__main__":
    {"push": push, "replay": replay, "report": report}[sys.argv[1]](*sys.argv[2:])
