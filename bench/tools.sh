# The two tools: how each is set up, called and checked; sourced by bench/run.

# The version that `pgbackrest version` prints is at least $1.
pgbackrest_is_at_least() {
  local version
  version=$("$pgbackrest" version | awk '{ print $2 }')
  [ "$(printf '%s\n' "$1" "$version" | sort -V | head -n 1)" = "$1" ]
}

find_tools() {
  pgbackrest=${BR:-pgbackrest}
  [ -n "${BR:-}" ] || "$bench/../scripts/setup" pgbackrest
  local built=${LASTGOOD:-$bench/../target/release/lastgood}
  [ -x "$built" ] || { echo "there is no $built: run make build" >&2; exit 1; }
  # The folder of the build may be closed to user postgres.
  install -m 755 "$built" "$work/bin/lastgood"
  lastgood=$work/bin/lastgood

  # pgBackRest with what makes it fast and like ours: encrypted, small files bundled, blocks known for
  # the next incremental where its version can do that.
  export PGBACKREST_REPO1_CIPHER_PASS=benchmark
  pgbackrest_common=(--no-config --stanza=bench --log-path="$work/logs" --lock-path="$work/lock" --log-level-file=off
    --log-level-console=warn --repo1-path="$work/repository/pgbackrest" --repo1-cipher-type=aes-256-cbc)
  pgbackrest_server=(--pg1-path="$data" --pg1-port="$port" --pg1-socket-path="$socket" --pg1-user=postgres)
  pgbackrest_backup=("${pgbackrest_server[@]}" --no-archive-check --start-fast --process-max="$jobs")
  pgbackrest_features=""
  if pgbackrest_is_at_least 2.39; then pgbackrest_backup+=(--repo1-bundle) pgbackrest_features+=", bundles"; fi
  if pgbackrest_is_at_least 2.47; then pgbackrest_backup+=(--repo1-block) pgbackrest_features+=", blocks"; fi
}

show_versions() {
  echo "$("$pgbackrest" version)$pgbackrest_features, zst 3, aes-256-cbc, $jobs processes; $("$lastgood" --version), $jobs jobs;" \
    "$("$postgres_bin/postgres" --version); $(nproc) CPUs" | tee "$work/versions"
}

# command_of TOOL VERB PREFIX...: runs PREFIX with the command to be measured at its end. What PREFIX calls is a program: the
# tools end it.
command_of() {
  local tool=$1 verb=$2
  shift 2
  local ours=("$lastgood" --config "$work/repository/lastgood.toml")
  local theirs=("$pgbackrest" "${pgbackrest_common[@]}")
  local usual=("${pgbackrest_backup[@]}" --compress-type=zst --compress-level=3)
  local into=(--pg1-path="$work/restored/pgbackrest" --type=none --process-max="$jobs")
  case $tool-$verb in
    lastgood-backup) ours+=(backup bench --full --jobs "$jobs") ;;
    lastgood-fastest) ours+=(backup bench --full --jobs "$jobs" --compress=-1) ;;
    lastgood-increment | lastgood-little) ours+=(backup bench --incremental --jobs "$jobs") ;;
    lastgood-restore) ours+=(restore bench --to "$work/restored/lastgood" --yes --jobs "$jobs") ;;
    lastgood-last) ours+=(restore bench --to "$work/restored/lastgood" --yes --jobs "$jobs" --at "backup:$last") ;;
    lastgood-delta | lastgood-same) ours+=(restore bench --to "$work/restored/lastgood" --delta --yes --jobs "$jobs") ;;
    pgbackrest-backup) theirs+=("${usual[@]}" --type=full backup) ;;
    pgbackrest-fastest) theirs+=("${pgbackrest_backup[@]}" --compress-type=lz4 --type=full backup) ;;
    pgbackrest-increment | pgbackrest-little) theirs+=("${usual[@]}" --type=incr backup) ;;
    pgbackrest-restore | pgbackrest-last) theirs+=("${into[@]}" restore) ;;
    pgbackrest-delta | pgbackrest-same) theirs+=("${into[@]}" --delta restore) ;;
    *) echo "no $tool $verb" >&2; return 2 ;;
  esac
  case $tool in
    lastgood) "$@" "${as[@]}" "${ours[@]}" ;;
    pgbackrest) "$@" "${as[@]}" "${theirs[@]}" ;;
  esac
}

# The user change as words, for a command that another program starts; it replaces itself by the tool.
if [ "$(id -u)" -eq 0 ]; then
  as=(setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/nonexistent)
else
  as=()
fi

# A new, empty repository.
before_backup() {
  trash "$work/repository/$1"
  install -d -o "$owner" -m 750 "$work/repository/$1"
  if [ "$1" = pgbackrest ]; then
    as_postgres "$pgbackrest" "${pgbackrest_common[@]}" "${pgbackrest_server[@]}" stanza-create
  else
    trash "$work/repository/lastgood.toml" "$work"/repository/*.key
    (cd "$work/repository" && as_postgres "$lastgood" init --repository "$work/repository/lastgood" \
      --database bench="host=$socket port=$port user=postgres" --config "$work/repository/lastgood.toml" >"$work/logs/lastgood-init.log")
  fi
}

after_backup() { :; }
before_fastest() { before_backup "$1"; }
after_fastest() { :; }

before_restore() {
  trash "$work/restored/$1"
  [ "$1" = lastgood ] || install -d -o "$owner" -m 700 "$work/restored/$1"
}

before_last() { before_restore "$1"; }
after_last() { after_restore "$1"; }

# These go onto what is there.
before_increment() { :; }
after_increment() { :; }
before_little() { :; }
after_little() { :; }
before_delta() { :; }
after_delta() { after_restore "$1"; }
before_same() { :; }
after_same() { after_restore "$1"; }

# A fast restore of less than everything is worth nothing: every table file is there at its size.
after_restore() {
  local difference
  difference=$(diff <(sizes "$data") <(sizes "$work/restored/$1") | head -n 5)
  [ -z "$difference" ] || { echo "$1 restored other files:" "$difference" >&2; exit 1; }
}

# Files of databases with their sizes. pg_internal.init is a cache that no tool backs up, and _fsm and _vm
# may be made larger by recovery.
sizes() {
  (cd "$1" && find base -type f ! -name pg_internal.init ! -name '*_fsm' ! -name '*_vm' ! -path 'base/pgsql_tmp*' -printf '%p %s\n' | sort)
}

# LastGood's receiver of WAL, beside what is measured: with it a backup knows what changed.
start_receiver() {
  (cd / && exec "${as[@]}" "$lastgood" --config "$work/repository/lastgood.toml" wal receive bench --progress none) \
    >"$work/logs/receiver.json" 2>"$work/logs/receiver.log" &
  receiver=$!
  local tries
  for tries in {1..100}; do
    [ -z "$(query postgres -c "SELECT 1 FROM pg_stat_replication WHERE application_name LIKE 'lastgood%'")" ] || return 0
    sleep 0.1
  done
  echo "the receiver did not begin; see $work/logs/receiver.log" >&2
  return 1
}

stop_receiver() {
  [ -z "${receiver:-}" ] || kill -TERM "$receiver" 2>/dev/null || true
  wait
}
