#!/usr/bin/env python3
"""Runs one command and appends what it cost, as a line of JSON, to a file.

wall        seconds from start to end
sync        seconds of a sync(2) right after: what the tool left unwritten
user, sys   CPU seconds of the command and all its children
server      CPU seconds of PostgreSQL meanwhile
other       CPU seconds of the rest of the machine; much of it makes a run "noisy"
rss         largest sum of resident memory over the command's processes, in bytes, sampled
read        bytes that its processes asked the system for, from files and pipes, sampled: the last of them may be missing
repository  bytes in the repository afterwards
added       by how many of these it has grown

Prints "noisy" or "quiet". A command that fails ends this program with its log.
"""
import argparse
import json
import os
import subprocess
import sys
import threading
import time

SAMPLE_SECONDS = 0.05
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def stat(pid):
    """Fields of /proc/PID/stat after the name, which may hold blanks; None when the process is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def family(root):
    """Process ids of `root` and all that descend from it."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := stat(name)):
            children.setdefault(int(fields[1]), []).append(int(name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting.extend(children.get(pid, []))
    return found


def server_cpu(postmaster):
    """CPU seconds of a server so far: living processes, and ended ones as their parents counted them."""
    every = (stat(pid) for pid in family(postmaster))
    return sum(sum(map(int, fields[11:15])) for fields in every if fields) / TICK


def machine_cpu():
    """Busy CPU seconds of the whole machine so far."""
    with open("/proc/stat") as file:
        fields = list(map(int, file.readline().split()[1:]))
    return (sum(fields[:3]) + sum(fields[5:8])) / TICK


def read_so_far(pid):
    """Bytes a process has read, by system calls; None when it is gone."""
    try:
        with open(f"/proc/{pid}/io") as file:
            return int(file.readline().split()[1])
    except OSError:
        return None


def sample(pid, peak, read, stop):
    """Keeps the largest memory of a process and its descendants in `peak`, and what each has read, until told to stop."""
    while not stop.wait(SAMPLE_SECONDS):
        processes = family(pid)
        every = (stat(one) for one in processes)
        peak[0] = max(peak[0], sum(int(fields[21]) * PAGE for fields in every if fields))
        read.update((one, bytes) for one in processes if (bytes := read_so_far(one)) is not None)


def size(folder):
    total = 0
    for path, _, names in os.walk(folder):
        total += sum(os.lstat(os.path.join(path, name)).st_size for name in names)
    return total


def main():
    parser = argparse.ArgumentParser()
    for name in ("tool", "verb", "result", "log", "repository"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--postmaster", type=int, required=True)
    parser.add_argument("--keep-noisy", type=int, required=True)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()

    os.sync()
    peak, read, stop = [0], {}, threading.Event()
    before = size(options.repository)
    busy, server = machine_cpu(), server_cpu(options.postmaster)
    with open(options.log, "wb") as log:
        began = time.monotonic()
        process = subprocess.Popen(options.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        sampler = threading.Thread(target=sample, args=(process.pid, peak, read, stop), daemon=True)
        sampler.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
    stop.set()
    sampler.join()
    if status != 0:
        with open(options.log, errors="replace") as log:
            sys.stderr.write(log.read()[-4000:])
        sys.exit(f"{options.tool} {options.verb} failed, status {os.waitstatus_to_exitcode(status)}")
    server = server_cpu(options.postmaster) - server
    busy = machine_cpu() - busy
    began = time.monotonic()
    os.sync()
    sync = time.monotonic() - began
    other = busy - server - usage.ru_utime - usage.ru_stime
    # The kernel's write-back threads count as "other", hence the generous share.
    noisy = other > 0.24 * wall + 0.5
    if not noisy or options.keep_noisy:
        run = dict(tool=options.tool, verb=options.verb, wall=wall, sync=sync, user=usage.ru_utime, sys=usage.ru_stime,
                   server=server, other=other, noisy=noisy, rss=peak[0], read=sum(read.values()), repository=size(options.repository))
        run["added"] = run["repository"] - before
        with open(options.result, "a") as file:
            file.write(json.dumps(run) + "\n")
    print("noisy" if noisy else "quiet")


main()
