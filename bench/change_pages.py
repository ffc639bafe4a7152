"""Changes N of every thousand pages of all files below a directory: 16 bytes in the middle, evenly spread."""

import os
import sys

PAGE = 8192


def main(root: str, per_thousand: int) -> None:
    due = 0
    for directory, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            with open(os.path.join(directory, name), "r+b", buffering=0) as file:
                for page in range(os.fstat(file.fileno()).st_size // PAGE):
                    due += per_thousand
                    if due >= 1000:
                        due -= 1000
                        os.pwrite(file.fileno(), os.urandom(16), page * PAGE + PAGE // 2)


main(sys.argv[1], int(sys.argv[2]))
