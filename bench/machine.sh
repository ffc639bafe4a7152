# Equal conditions for every run; sourced by bench/run.

# Moves files out of the way instead of deleting them: ext4 steps over inodes deleted in the last minutes
# one by one, so that whoever creates many files right after a deletion pays for it. What takes space is
# given back by truncating.
trash() {
  mkdir -p "$work/trash"
  local old to
  for old in "$@"; do
    [ -e "$old" ] || continue
    to=$work/trash/$(date +%s%N)
    mv "$old" "$to"
    find "$to" -type f -links 1 -size +32k -exec truncate -s 0 {} +
  done
}

# What was moved away, deleted once nothing is measured any more.
clear_leftovers() { rm -rf "$work/trash" "$work/ballast"; }

# Written data is on disk, what will be read ($1) is in the page cache, and no memory is free.
settle() {
  sync
  find "$1" -type f -print0 | xargs -0 cat >/dev/null
  fill_free_memory
}

# A virtual machine gives free pages back to its host, and the first to touch them again pays for that.
# With clean pages of a sparse file in all of it, new pages come from reclaim for everybody.
fill_free_memory() {
  grep -q '^flags.* hypervisor' /proc/cpuinfo || return 0
  local round free_mib ballast
  mkdir -p "$work/ballast"
  for round in 1 2; do
    free_mib=$(awk '/^MemFree/ { print int($2 / 1024) }' /proc/meminfo)
    [ "$free_mib" -gt 1200 ] || return 0
    ballast=$work/ballast/$(date +%s%N)
    truncate -s "$((free_mib - 600))M" "$ballast"
    dd if="$ballast" of=/dev/null bs=1M status=none
  done
}

# measured TOOL VERB: one run in equal conditions. A run that had other load beside it is done again, at
# most twice; one that stays noisy counts, and the table says so.
measured() {
  local tool=$1 verb=$2 attempt noisy
  for attempt in 1 2 3; do
    "before_${verb}" "$tool"
    settle "$([ "$verb" = restore ] && echo "$work/repository/$tool" || echo "$data")"
    noisy=$(command_of "$tool" "$verb" python3 "$bench/measure.py" --tool "$tool" --verb "$verb" \
      --result "$work/runs.jsonl" --log "$work/logs/$tool-$verb.log" --keep-noisy "$((attempt == 3))" \
      --repository "$work/repository/$tool" --postmaster "$(head -n 1 "$data/postmaster.pid")" --)
    "after_${verb}" "$tool"
    [ "$noisy" = noisy ] || break
  done
}

# The same for what cannot be done a second time: an increment after another finds nothing changed. $3 is what it is called.
once() {
  local tool=$1 verb=$2 name=${3:-$2}
  "before_${verb}" "$tool"
  settle "$data"
  settle "$work/repository/$tool"
  command_of "$tool" "$verb" python3 "$bench/measure.py" --tool "$tool" --verb "$name" --result "$work/runs.jsonl" \
    --log "$work/logs/$tool-$name.log" --keep-noisy 1 --repository "$work/repository/$tool" \
    --postmaster "$(head -n 1 "$data/postmaster.pid")" -- >/dev/null
  "after_${verb}" "$tool"
}
