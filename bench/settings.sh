# Settings of a benchmark; sourced by bench/run.

export LC_ALL=C.UTF-8
scale=${BENCH_SCALE:-small}
runs=${BENCH_RUNS:-3}
postgres_bin=${BENCH_POSTGRES_BIN:-/usr/lib/postgresql/15/bin}
port=54990      # only in the socket's name: the server listens on no address
jobs=2

# Rows of each table, and pgbench's scale. The mix is the same at both sizes: text, JSON, values that do
# not compress, values that PostgreSQL compressed, many tiny tables, and pgbench's very empty rows.
case $scale in
  small) pgbench_scale=11 docs=45000 events=75000 bigdocs=1500 blobs=6000 tiny=150 ;;
  full) pgbench_scale=150 docs=600000 events=1000000 bigdocs=20000 blobs=75000 tiny=2000 ;;
  x[1-9] | x[1-9][0-9])
    times=${scale#x}
    pgbench_scale=$((11 * times)) docs=$((45000 * times)) events=$((75000 * times)) bigdocs=$((1500 * times))
    blobs=$((6000 * times)) tiny=$((150 * times)) ;;
  *) echo "BENCH_SCALE is small, full, or x4 for four times small, not $scale" >&2; exit 2 ;;
esac

# PostgreSQL refuses to run as root, and both tools run as the user who owns the data.
if [ "$(id -u)" -eq 0 ]; then
  as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/nonexistent "$@"; }
  owner=postgres
else
  as_postgres() { "$@"; }
  owner=$(id -un)
fi

work=${BENCH_WORK:-$bench/work}

# Makes the folder for everything; where user postgres cannot enter the tree, another one.
prepare_work() {
  "$bench/../scripts/setup" python3
  mkdir -p "$bench/work" "$work"
  if ! as_postgres test -x "$work"; then
    work=/var/tmp/lastgood-bench
    mkdir -p "$work"
  fi
  work=$(cd "$work" && pwd)
  data=$work/data socket=$work/socket
  local folder
  for folder in logs socket repository restored lock bin; do
    mkdir -p "$work/$folder"
    [ "$folder" = bin ] || chown "$owner" "$work/$folder"
  done
}
