//! What was done to a server is what its WAL says, in every version.

use std::collections::BTreeMap;

use pgclient::Session;
use pgformat::{
    Lsn, Major, Tli,
    control::WalLevel,
    wal::{
        DatabaseChange, Event, Record, RelationLocator, RowChange, ServerEvent, StorageChange, Transaction,
        TransactionKind,
    },
};
use testkit::clusters::{Options, TestCluster, majors_to_test};

use super::each_record;

type Counts = BTreeMap<&'static str, u64>;

/// What a statement is to leave in WAL about the table `public.work`.
const STATEMENTS: &[(&str, &[(&str, u64)])] = &[
    (
        "INSERT INTO public.work SELECT i, 1 FROM pg_catalog.generate_series(1, 100) AS i",
        &[("inserted", 100)],
    ),
    ("COPY public.work FROM '{rows}'", &[("inserted", 1000)]),
    // An index on `id`, none on `n`.
    (
        "UPDATE public.work SET id = -id WHERE id BETWEEN 1 AND 30",
        &[("updated", 30)],
    ),
    ("UPDATE public.work SET n = 2 WHERE id = 50", &[("updated", 1)]),
    ("DELETE FROM public.work WHERE id BETWEEN 60 AND 80", &[("deleted", 21)]),
    (
        "INSERT INTO public.work VALUES (60, 0), (61, 0), (50, 0) ON CONFLICT (id) DO NOTHING",
        &[("inserted", 2)],
    ),
    (
        "SAVEPOINT a; INSERT INTO public.work VALUES (70, 0); SAVEPOINT b; DELETE FROM public.work WHERE id < 0;
         ROLLBACK TO b; INSERT INTO public.work VALUES (71, 0); RELEASE a; DELETE FROM public.work WHERE id = 70",
        &[("inserted", 2), ("deleted", 1)],
    ),
    // More subtransactions than are told at once, a third of them rolled back.
    (
        "DO $$ BEGIN FOR i IN 1..90 LOOP
             BEGIN
                 INSERT INTO public.work VALUES (5000 + i, 0);
                 IF i % 3 = 0 THEN RAISE EXCEPTION 'no'; END IF;
             EXCEPTION WHEN raise_exception THEN NULL;
             END;
         END LOOP; END $$",
        &[("inserted", 60)],
    ),
];

/// What was read.
#[derive(Debug, Default)]
struct Read {
    /// Rows of each table by the transaction or subtransaction that wrote the record.
    rows: BTreeMap<(u32, RelationLocator), Counts>,
    /// Top transactions of subtransactions, as told before the end, and by the commit.
    told: BTreeMap<u32, u32>,
    committed: BTreeMap<u32, u32>,
    /// When each committed.
    times: BTreeMap<u32, i64>,
    ends: Vec<(TransactionKind, u32, Option<String>)>,
    dropped: BTreeMap<u32, Vec<RelationLocator>>,
    lines: Vec<String>,
    restore_points: Vec<(String, Lsn)>,
    redo_levels: Vec<WalLevel>,
}

impl Read {
    fn of(cluster: &TestCluster) -> Read {
        let mut read = Read::default();
        each_record(cluster.data_dir(), |record| read.take_in(record));
        read
    }

    fn take_in(&mut self, record: &Record<'_>) {
        let parts = record.parts().unwrap();
        if let Some(top) = parts.toplevel_xid {
            self.told.insert(record.xid, top);
        }
        match parts.event().unwrap() {
            Event::Rows(rows) => {
                let (what, count) = match rows.change {
                    RowChange::Insert | RowChange::InsertUnlessConflict => ("inserted", rows.count),
                    RowChange::Update | RowChange::HotUpdate => ("updated", rows.count),
                    RowChange::Delete => ("deleted", rows.count),
                    other => panic!("{other:?}"),
                };
                let counts = self.rows.entry((record.xid, rows.relation)).or_default();
                *counts.entry(what).or_default() += u64::from(count);
            }
            Event::Transaction(transaction) => self.take_in_end(&transaction),
            Event::Assignment(assignment) => {
                let pairs = assignment.subtransactions.iter().map(|xid| (xid, assignment.top));
                self.told.extend(pairs);
            }
            Event::Truncate(truncate) => self.lines.push(format!(
                "truncated in {}: {:?}",
                truncate.database,
                truncate.tables.iter().collect::<Vec<_>>()
            )),
            Event::Storage(StorageChange::Truncate {
                relation,
                blocks,
                forks,
            }) if forks.main => self.lines.push(format!("{} cut to {blocks}", relation.relation)),
            Event::Storage(StorageChange::Create { relation, fork }) => {
                assert!(record.is_special_relation_update());
                self.lines.push(format!("{} made {fork:?}", relation.relation));
            }
            Event::Database(change) => self.lines.push(match change {
                DatabaseChange::CreateByFileCopy {
                    database,
                    source_database,
                    ..
                } => format!("database {database} copied from {source_database}"),
                DatabaseChange::CreateByWalLog { database, .. } => format!("database {database} written"),
                DatabaseChange::Drop { database, tablespaces } => {
                    format!("database {database} gone from {}", tablespaces.len())
                }
            }),
            Event::Server(event) => self.take_in_server(event, record),
            _ => {}
        }
    }

    fn take_in_end(&mut self, transaction: &Transaction<'_>) {
        let gid = transaction.gid.map(|gid| String::from_utf8(gid.to_vec()).unwrap());
        self.ends.push((transaction.kind, transaction.xid, gid));
        if transaction.kind.is_commit() {
            self.times.insert(transaction.xid, transaction.time);
            for xid in transaction.subtransactions.iter() {
                self.committed.insert(xid, transaction.xid);
                self.times.insert(xid, transaction.time);
            }
            self.committed.insert(transaction.xid, transaction.xid);
            self.dropped
                .insert(transaction.xid, transaction.dropped.iter().collect());
        }
    }

    fn take_in_server(&mut self, event: ServerEvent<'_>, record: &Record<'_>) {
        match event {
            ServerEvent::RestorePoint { name, .. } => {
                let name = String::from_utf8(name.to_vec()).unwrap();
                self.restore_points.push((name, record.end));
            }
            ServerEvent::ParameterChange(parameters) => self.lines.push(format!(
                "wal_level {:?}, max_connections {}, track_commit_timestamp {}",
                parameters.wal_level, parameters.max_connections, parameters.track_commit_timestamp
            )),
            ServerEvent::FullPageWritesChange { on } => self.lines.push(format!("full_page_writes {on}")),
            ServerEvent::CheckpointRedo { wal_level } => self.redo_levels.push(wal_level),
            ServerEvent::Checkpoint { checkpoint, .. } => {
                assert!(checkpoint.redo <= record.lsn, "{checkpoint:?}");
                let since = record.major.unwrap() >= Major::V17;
                assert_eq!(checkpoint.wal_level.is_some(), since, "{checkpoint:?}");
            }
            ServerEvent::EndOfRecovery {
                timeline,
                previous_timeline,
                wal_level,
                ..
            } => self.lines.push(format!(
                "timeline {timeline} after {previous_timeline}, wal_level {wal_level:?}"
            )),
            _ => {}
        }
    }

    /// Rows that a transaction committed, its subtransactions among it.
    fn rows_of(&self, top: u32, relation: RelationLocator) -> Counts {
        let mut sum = Counts::new();
        for ((xid, at), counts) in &self.rows {
            if *at == relation && self.committed.get(xid) == Some(&top) {
                for (what, count) in counts {
                    *sum.entry(*what).or_default() += count;
                }
            }
        }
        sum
    }
}

async fn number(session: &Session, sql: &str) -> u32 {
    let sql = format!("SELECT ({sql})::bigint");
    let row = session.query_one("ask", &sql, &[]).await.unwrap();
    u32::try_from(row.get::<_, i64>(0)).unwrap()
}

/// Runs it in a transaction, and gives its id.
async fn transaction(session: &Session, statement: &str) -> u32 {
    session
        .execute("do it", &format!("BEGIN; {statement}"))
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    let xid = number(session, "pg_catalog.pg_current_xact_id()::text").await;
    session.execute("commit", "COMMIT").await.unwrap();
    xid
}

async fn locator(session: &Session, relation: &str) -> RelationLocator {
    RelationLocator {
        tablespace: 1663,
        database: number(
            session,
            "SELECT oid FROM pg_catalog.pg_database WHERE datname = 'postgres'",
        )
        .await,
        relation: number(session, &format!("pg_catalog.pg_relation_filenode('{relation}')")).await,
    }
}

/// Once a new session has it, every process of the server was told before.
async fn switch_off_full_page_writes(cluster: &TestCluster) {
    let session = cluster.session().await;
    session
        .execute("switch a setting", "ALTER SYSTEM SET full_page_writes = off")
        .await
        .unwrap();
    session
        .execute("reload", "SELECT pg_catalog.pg_reload_conf()")
        .await
        .unwrap();
    for _ in 0..1000 {
        let on = cluster
            .session()
            .await
            .query_one("ask", "SHOW full_page_writes", &[])
            .await;
        if on.unwrap().get::<_, String>(0) == "off" {
            return;
        }
    }
    panic!("the server did not read its configuration again");
}

async fn cluster(major: Major) -> TestCluster {
    let conf = [
        "wal_level = logical",
        "track_commit_timestamp = on",
        "autovacuum = off",
        "wal_keep_size = 1GB",
    ];
    let options = Options {
        conf: conf.map(str::to_owned).to_vec(),
        ..Options::default()
    };
    TestCluster::new(major, options).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_and_times_of_transactions_are_as_they_were_executed() {
    for major in majors_to_test() {
        let mut cluster = cluster(major).await;
        let session = cluster.session().await;
        session
            .execute("make a table", "CREATE TABLE public.work (id int PRIMARY KEY, n int)")
            .await
            .unwrap();
        let rows = cluster.folder().join("rows");
        let text: String = (2001..=3000).map(|id| format!("{id}\t0\n")).collect();
        std::fs::write(&rows, text).unwrap();
        let work = locator(&session, "public.work").await;
        let mut expected = Vec::new();
        for (statement, counts) in STATEMENTS {
            let statement = statement.replace("{rows}", rows.to_str().unwrap());
            let xid = transaction(&session, &statement).await;
            expected.push((statement, xid, counts.iter().copied().collect::<Counts>()));
        }
        session
            .execute("do nothing in the end", "BEGIN; DELETE FROM public.work; ROLLBACK")
            .await
            .unwrap();
        let prepare = "BEGIN; INSERT INTO public.work VALUES (9001, 0); PREPARE TRANSACTION 'one two'";
        session.execute("prepare", prepare).await.unwrap();
        let prepared = number(
            &session,
            "SELECT transaction::text FROM pg_catalog.pg_prepared_xacts WHERE gid = 'one two'",
        )
        .await;
        session.execute("commit", "COMMIT PREPARED 'one two'").await.unwrap();
        expected.push(("prepared".into(), prepared, Counts::from([("inserted", 1)])));
        let first = expected[0].1;
        let last = number(&session, "pg_catalog.pg_current_xact_id()::text").await;
        let mut times = BTreeMap::new();
        for xid in first..last {
            // In two parts: before 14 they are floating-point numbers, too short for both together.
            let time = format!(
                "SELECT EXTRACT(epoch FROM pg_catalog.date_trunc('second', at))::bigint * 1000000
                        + EXTRACT(microseconds FROM at)::bigint % 1000000
                   FROM pg_catalog.pg_xact_commit_timestamp('{xid}'::xid) AS at"
            );
            let row = session.query_one("ask when", &time, &[]).await.unwrap();
            if let Some(time) = row.get::<_, Option<i64>>(0) {
                times.insert(xid, time);
            }
        }
        cluster.stop().await;

        let read = Read::of(&cluster);
        for (statement, xid, counts) in expected {
            assert_eq!(read.rows_of(xid, work), counts, "PostgreSQL {major}: {statement}");
        }
        let of_then: BTreeMap<u32, i64> = read.times.range(first..last).map(|(xid, time)| (*xid, *time)).collect();
        assert!(times.len() > 60, "PostgreSQL {major}: {times:?}");
        assert_eq!(times, of_then, "PostgreSQL {major}");
        let told: Vec<_> = read
            .told
            .iter()
            .filter(|(xid, _)| read.committed.contains_key(xid))
            .collect();
        assert!(told.len() >= 40, "PostgreSQL {major}: {told:?}");
        for (xid, top) in told {
            assert_eq!(read.committed[xid], *top, "PostgreSQL {major}: {xid}");
        }
        // From 14 on, with wal_level = logical, each is told, one way or the other.
        for (xid, top) in read.committed.range(first..last).filter(|(xid, top)| xid != top) {
            assert!(
                major < Major::V14 || read.told.get(xid) == Some(top),
                "PostgreSQL {major}: {xid}"
            );
        }
        let gid = || Some("one two".to_owned());
        for kind in [TransactionKind::Prepare, TransactionKind::CommitPrepared] {
            assert!(
                read.ends.contains(&(kind, prepared, gid())),
                "PostgreSQL {major}: {:?}",
                read.ends
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_databases_settings_and_names_are_found_in_every_version() {
    for major in majors_to_test() {
        let mut cluster = cluster(major).await;
        let session = cluster.session().await;
        let mut lines = vec!["wal_level Logical, max_connections 60, track_commit_timestamp true".to_owned()];
        transaction(
            &session,
            "CREATE TABLE public.work AS SELECT i FROM pg_catalog.generate_series(1, 3000) AS i",
        )
        .await;
        let (before, table) = (
            locator(&session, "public.work").await,
            number(&session, "'public.work'::regclass::oid").await,
        );
        lines.push(format!("{} made Main", before.relation));
        session.execute("delete", "DELETE FROM public.work").await.unwrap();
        session.execute("vacuum", "VACUUM public.work").await.unwrap();
        lines.push(format!("{} cut to 0", before.relation));
        let truncated = transaction(&session, "TRUNCATE public.work").await;
        let after = locator(&session, "public.work").await;
        lines.push(format!("{} made Main", after.relation));
        lines.push(format!("truncated in {}: [{table}]", before.database));
        let dropped = transaction(&session, "DROP TABLE public.work").await;
        let point = "SELECT pg_catalog.pg_create_restore_point('before it happened')::text";
        let point: String = session.query_one("name it", point, &[]).await.unwrap().get(0);
        let template = number(
            &session,
            "SELECT oid FROM pg_catalog.pg_database WHERE datname = 'template1'",
        )
        .await;
        let strategies: &[&str] = if major >= Major::V15 {
            &["STRATEGY wal_log", "STRATEGY file_copy"]
        } else {
            &[""]
        };
        for strategy in strategies {
            session
                .execute("make a database", &format!("CREATE DATABASE other {strategy}"))
                .await
                .unwrap();
            let other = number(
                &session,
                "SELECT oid FROM pg_catalog.pg_database WHERE datname = 'other'",
            )
            .await;
            session.execute("drop a database", "DROP DATABASE other").await.unwrap();
            lines.push(match *strategy {
                "STRATEGY wal_log" => format!("database {other} written"),
                _ => format!("database {other} copied from {template}"),
            });
            lines.push(format!("database {other} gone from 1"));
        }
        switch_off_full_page_writes(&cluster).await;
        lines.push("full_page_writes false".to_owned());
        cluster.stop().await;

        let read = Read::of(&cluster);
        let mut said = read.lines.iter();
        for line in &lines {
            assert!(
                said.any(|said| said == line),
                "PostgreSQL {major}: {line:?} is not in its place: {:#?}",
                read.lines
            );
        }
        let redo = (major >= Major::V17).then_some(&WalLevel::Logical);
        assert_eq!(read.redo_levels.last(), redo, "PostgreSQL {major}");
        assert_eq!(read.dropped[&truncated], [before], "PostgreSQL {major}");
        assert_eq!(read.dropped[&dropped], [after], "PostgreSQL {major}");
        assert_eq!(
            read.restore_points,
            [("before it happened".to_owned(), point.parse().unwrap())],
            "PostgreSQL {major}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_tells_the_timelines_in_every_version() {
    for major in majors_to_test() {
        let mut cluster = cluster(major).await;
        cluster.stop().await;
        std::fs::write(cluster.data_dir().join("standby.signal"), "").unwrap();
        let conninfo = cluster.conninfo();
        // The start is over when the promotion is.
        let promote = async {
            let session = loop {
                match Session::connect(&conninfo).await {
                    Ok(session) => break session,
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                }
            };
            session
                .execute("promote", "SELECT pg_catalog.pg_promote(true, 60)")
                .await
                .unwrap();
        };
        tokio::join!(cluster.start(), promote);
        cluster.stop().await;
        let read = Read::of(&cluster);
        let level = (major >= Major::V17).then_some(WalLevel::Logical);
        let line = format!("timeline {} after {}, wal_level {level:?}", Tli(2), Tli(1));
        assert!(read.lines.contains(&line), "PostgreSQL {major}: {:#?}", read.lines);
    }
}
