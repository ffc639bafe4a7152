# The server and its data; sourced by bench/run. Contents are the same every time (seeded or hashed).

query() {
  local database=$1
  shift
  as_postgres "$postgres_bin/psql" -XAtq -v ON_ERROR_STOP=1 -h "$socket" -p "$port" -U postgres -d "$database" "$@"
}

# One data file: SQL from this folder, with the numbers of rows as settings.
load() {
  { printf "SET bench.docs=%s; SET bench.events=%s; SET bench.blobs=%s; SET bench.bigdocs=%s; SET bench.tiny=%s;\n" \
      "$docs" "$events" "$blobs" "$bigdocs" "$tiny"
    cat "$bench/data/$1.sql"; } | query bench >/dev/null
}

stop_server() {
  [ -e "$data/postmaster.pid" ] || return 0
  as_postgres "$postgres_bin/pg_ctl" -D "$data" -w -t 600 -m fast stop >/dev/null || true
}

start_server() {
  (cd / && as_postgres "$postgres_bin/pg_ctl" -D "$data" -w -t 600 -l "$work/logs/postgres.log" start >/dev/null)
}

# The data of an earlier call is used again if it is of the same scale and was completed.
start_server_with_data() {
  stop_server
  if [ "$(cat "$work/data.scale" 2>/dev/null)" != "$scale" ]; then
    rm -f "$work/data.scale"
    rm -rf "$data"
    echo "making the $scale data set" >&2
    create_cluster
    start_server
    generate
    echo "$scale" >"$work/data.scale"
  else
    start_server
  fi
}

create_cluster() {
  install -d -o "$owner" -m 700 "$data"
  (cd / && as_postgres "$postgres_bin/initdb" -D "$data" -k -E UTF8 --locale=C.UTF-8 -A trust -U postgres >/dev/null)
  # archive_command: pgBackRest wants archiving to be on; WAL archiving itself is not measured here.
  cat >>"$data/postgresql.conf" <<CONF
listen_addresses = ''
port = $port
unix_socket_directories = '$socket'
shared_buffers = 256MB
maintenance_work_mem = 256MB
max_wal_size = 6GB
checkpoint_timeout = 30min
wal_level = replica
max_wal_senders = 10
archive_mode = on
archive_command = '/bin/true'
autovacuum = off
synchronous_commit = off
jit = off
max_parallel_workers_per_gather = 0
CONF
}

# Two sessions at once: 2 cores are what this is sized for.
generate() {
  query postgres -c "CREATE DATABASE bench" -c "CREATE DATABASE pgbench"
  load words
  local first
  { load docs && load tiny; } & first=$!
  load events
  wait "$first"
  load blobs & first=$!
  as_postgres "$postgres_bin/pgbench" -h "$socket" -p "$port" -U postgres -i -q -s "$pgbench_scale" pgbench >/dev/null 2>&1
  wait "$first"
  query bench -c "VACUUM (ANALYZE, FREEZE)"
  query pgbench -c "VACUUM (ANALYZE, FREEZE)"
  query postgres -c CHECKPOINT
}

describe_data() {
  echo "$scale: $(du -sb --exclude=pg_wal "$data" | awk '{ print int($1 / 1048576) }') MiB in $(find "$data" -type f | wc -l) files"
}

# Rows by a hash of their key, so that each seed ($2) touches others: $1 of a million in two tables, a twentieth of that in
# pgbench's.
touch_rows() {
  query bench -c "SET synchronous_commit = off" \
    -c "UPDATE docs SET score = score + 1, updated = now() WHERE abs(hashtext(id::text || '$2')::bigint) % 1000000 < $1" \
    -c "UPDATE events SET kind = 'touch' WHERE abs(hashint8(id + $2)::bigint) % 1000000 < $1"
  query pgbench -c "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE abs(hashint4(aid + $2)::bigint) % 1000000 < $1 / 20"
  query postgres -c CHECKPOINT
}

# A receiver's slot keeps WAL, and LastGood makes none where that has no limit.
limit_slots() {
  query postgres -c "ALTER SYSTEM SET max_slot_wal_keep_size = '20GB'" -c "SELECT pg_reload_conf()" >/dev/null
}
