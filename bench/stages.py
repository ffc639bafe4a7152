#!/usr/bin/env python3
"""CPU seconds by stage from samples with call chains: stages.py VERB FREQUENCY SAMPLES

SAMPLES is what `perf script -F comm,ip,sym` prints: a line with the process's name, its frames from the innermost on, a blank line.
A sample belongs to the first stage of which a pattern is found in its innermost frame, if that is the program's; the kernel's
belong to the call by which it was entered.
"""
import collections
import re
import sys

PROGRAM = [
    ("compress", r"ZSTD_(compress|encode|build|seqTo|fast|dfast|greedy|lazy|fill|entropy|selectBlock|ldm|initStats|reset|store|loadD|copyCCtx|countSeq)|HUF_(compress|build|optimal|write|setMax)|FSE_(compress|build[C]|normalize|write|optimal)|HIST_|XXH"),
    ("decompress", r"ZSTD_(decompress|decode|execSequence|wildcopy|getFrame|safecopy|DCtx|refDDict)|HUF_(decompress|read|fill)|FSE_(decode|buildD|read)|decompress"),
    # What is left of zstd is how it looks for matches.
    ("compress", r"^ZSTD_"),
    ("hash", r"blake3"),
    ("seal, open", r"aes|gcm|ghash|chacha|aws_lc"),
    ("checksum", r"checksum|crc32c"),
    ("fold", r"fold::|Folder|Shape"),
    ("copy", r"memmove|memcpy|memset|memcmp"),
]
KERNEL = [
    ("read", r"sys_p?read|vfs_read|sys_getrandom"),
    ("write", r"sys_p?write|vfs_write|sys_ftruncate|sys_fallocate"),
    ("make durable", r"sys_(f|fdata)?sync|sys_syncfs"),
    ("files", r"sys_(open|stat|newfstat|statx|getdents|close|link|rename|unlink|mkdir|fchmod|fchown|utime|lseek|fadvise)"),
    ("memory", r"page_fault|sys_(mmap|munmap|madvise|brk|mprotect)"),
    ("wait", r"sys_(futex|epoll|sched)|schedule"),
]


def stage(frames):
    kernel = [name for address, name in frames if address.startswith("ffff")]
    rules, names = (KERNEL, kernel) if kernel else (PROGRAM, [frames[0][1]])
    for title, pattern in rules:
        if any(re.search(pattern, name) for name in names):
            return title
    return "other of the kernel" if kernel else "other of ours"


def samples(path):
    frames = []
    with open(path) as file:
        for line in file:
            fields = line.split(maxsplit=1)
            if not fields:
                if frames:
                    yield frames
                frames = []
            elif line[0].isspace():
                frames.append((fields[0], fields[1].strip() if len(fields) > 1 else ""))
    if frames:
        yield frames


def main():
    verb, frequency, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    found = collections.Counter(stage(frames) for frames in samples(path))
    total = sum(found.values())
    print(f"\n{verb}: {total / frequency:.2f} CPU s\n")
    print("| stage | CPU s | share |\n|---|---|---|")
    for title, count in found.most_common():
        print(f"| {title} | {count / frequency:.2f} | {count / total:.0%} |")


main()
