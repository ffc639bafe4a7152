//! Record by record, against PostgreSQL's own reader.

use std::fmt::Write;
use std::process::Command;

use pgclient::Session;
use pgformat::Major;
use pgformat::relation::Fork;
use pgformat::wal::{Event, Record, Transaction, TransactionKind};
use testkit::clusters::{Options, TestCluster, sample};

use super::each_record;

/// As `pg_waldump` names them, in order of their numbers.
const MANAGERS: [&str; 22] = [
    "XLOG",
    "Transaction",
    "Storage",
    "CLOG",
    "Database",
    "Tablespace",
    "MultiXact",
    "RelMap",
    "Standby",
    "Heap2",
    "Heap",
    "Btree",
    "Hash",
    "Gin",
    "Gist",
    "Sequence",
    "SPGist",
    "BRIN",
    "CommitTs",
    "ReplicationOrigin",
    "Generic",
    "LogicalMessage",
];

/// What `sample` does not do. Each line is a transaction of its own where it does not say otherwise.
const WORK: &[&str] = &[
    "CREATE TABLE public.work (id int PRIMARY KEY, filler text)",
    "INSERT INTO public.work SELECT i, pg_catalog.repeat('x', i % 100) FROM pg_catalog.generate_series(1, 5000) AS i",
    "SET wal_compression = pglz",
    "CHECKPOINT",
    "UPDATE public.work SET filler = filler || 'pglz' WHERE id % 10 = 0",
    "SET wal_compression = lz4",
    "CHECKPOINT",
    "UPDATE public.work SET filler = filler || 'lz4' WHERE id % 10 = 1",
    "SET wal_compression = zstd",
    "CHECKPOINT",
    "UPDATE public.work SET filler = filler || 'zstd' WHERE id % 10 = 2",
    "SET wal_compression = off",
    "CHECKPOINT",
    "DELETE FROM public.work WHERE id > 4000",
    "VACUUM (FREEZE) public.work",
    "DELETE FROM public.work WHERE id > 3000",
    "VACUUM public.work",
    // A subtransaction each, a third of them rolled back: more than are told at once.
    "DO $$ BEGIN FOR i IN 1..200 LOOP
         BEGIN
             INSERT INTO public.work VALUES (10000 + i, 'sub');
             IF i % 3 = 0 THEN RAISE EXCEPTION 'no'; END IF;
         EXCEPTION WHEN raise_exception THEN NULL;
         END;
     END LOOP; END $$",
    "BEGIN; SAVEPOINT a; INSERT INTO public.work VALUES (20001, 'a'); SAVEPOINT b; INSERT INTO public.work VALUES (20002, 'b');
     ROLLBACK TO b; INSERT INTO public.work VALUES (20003, 'c'); COMMIT",
    "BEGIN; CREATE TABLE public.never (id int); INSERT INTO public.never VALUES (1); SAVEPOINT s; DELETE FROM public.work
     WHERE id < 10; ROLLBACK",
    "BEGIN; INSERT INTO public.work VALUES (30001, 'two'); SAVEPOINT s; DELETE FROM public.work WHERE id = 77;
     CREATE TABLE public.prepared (id int); PREPARE TRANSACTION 'odd; name, with blkref'",
    "COMMIT PREPARED 'odd; name, with blkref'",
    "BEGIN; DROP TABLE public.prepared; SAVEPOINT s; INSERT INTO public.work VALUES (30002, 'two');
     PREPARE TRANSACTION 'given up'",
    "ROLLBACK PREPARED 'given up'",
    "BEGIN; DROP TABLE public.prepared; PREPARE TRANSACTION 'dropped'",
    "COMMIT PREPARED 'dropped'",
    "INSERT INTO public.work VALUES (1, 'again') ON CONFLICT (id) DO UPDATE SET filler = 'upsert'",
    "CREATE TABLE public.gone AS SELECT i FROM pg_catalog.generate_series(1, 1000) AS i",
    "TRUNCATE public.gone",
    "DROP TABLE public.gone",
    "VACUUM FULL public.work",
    "CLUSTER public.work USING work_pkey",
    "REINDEX TABLE public.work",
    "CREATE DATABASE by_wal STRATEGY wal_log",
    "CREATE DATABASE by_copy STRATEGY file_copy",
    "DROP DATABASE by_wal",
    "DROP DATABASE by_copy",
    "SELECT pg_catalog.pg_create_restore_point('before, blkref #0: rel 1/2/3 blk 4')",
    "SELECT pg_catalog.pg_switch_wal()",
    // A record longer than several segments.
    "SELECT pg_catalog.pg_logical_emit_message(true, 'long', pg_catalog.repeat('m', 3500000))",
    "SELECT pg_catalog.pg_switch_wal()",
    "SELECT pg_catalog.txid_current(), pg_catalog.pg_notify('channel', 'payload')",
];

async fn work(cluster: &TestCluster, session: &Session) {
    for statement in WORK {
        session
            .execute("work", statement)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
    let file = cluster.folder().join("rows");
    let copy = format!(
        "COPY public.work TO '{0}'; CREATE TABLE public.copied (LIKE public.work); COPY public.copied FROM '{0}'",
        file.display()
    );
    session.execute("copy rows", &copy).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_is_read_as_pg_waldump_reads_it() {
    let options = Options {
        wal_segment_size_mib: 1,
        conf: ["wal_keep_size = 1GB", "autovacuum = off", "timezone = UTC"]
            .map(str::to_owned)
            .to_vec(),
        ..Options::default()
    };
    let mut cluster = TestCluster::new(Major::V15, options).await;
    sample::create(&cluster, None).await;
    work(&cluster, &cluster.session().await).await;
    cluster.stop().await;

    let (mut ours, mut first, mut end) = (Vec::new(), None, None);
    let mut longest = 0;
    each_record(cluster.data_dir(), |record| {
        first.get_or_insert(record.lsn);
        end = Some(record.end);
        longest = longest.max(record.total_length());
        ours.push(line_of(record));
    });
    let theirs = Command::new(cluster.binaries().program("pg_waldump"))
        .env("TZ", "UTC")
        .args(["--path", cluster.data_dir().join("pg_wal").to_str().unwrap()])
        .args([
            "--start",
            &first.unwrap().to_string(),
            "--end",
            &end.unwrap().to_string(),
        ])
        .output()
        .unwrap();
    assert!(theirs.status.success(), "{}", String::from_utf8_lossy(&theirs.stderr));
    let theirs = String::from_utf8(theirs.stdout).unwrap();
    let mut compared = 0;
    for (ours, theirs) in ours.iter().zip(theirs.lines()) {
        assert_eq!(*ours, restated(theirs), "{theirs}");
        compared += 1;
    }
    assert_eq!((compared, compared), (ours.len(), theirs.lines().count()));
    assert!(compared > 20_000 && longest > 3 << 20, "{compared} records, {longest}");
    let seen = |what: &str| ours.iter().filter(|line| line.contains(what)).count();
    for what in [
        " FPW",
        "fork fsm",
        "fork vm",
        "fork init",
        "subxacts",
        "Commit ",
        "Abort ",
        "Prepare ",
        "CommitPrepared ",
        "AbortPrepared ",
    ] {
        assert!(seen(what) > 0, "there is no {what:?}");
    }
}

/// What is compared, of one of our records.
fn line_of(record: &Record<'_>) -> String {
    let parts = record.parts().unwrap();
    let mut line = format!(
        "{} {} tx {} at {} after {}",
        MANAGERS[usize::from(record.rmid)],
        record.total_length(),
        record.xid,
        record.lsn,
        record.prev
    );
    for block in parts.blocks() {
        let (at, image) = (block.relation, block.image);
        let fork = match block.fork {
            Fork::Main => "",
            Fork::FreeSpaceMap => "fork fsm ",
            Fork::VisibilityMap => "fork vm ",
            Fork::Init => "fork init ",
        };
        let image = match image.map(|image| image.applies) {
            None => "",
            Some(true) => " FPW",
            Some(false) => " FPW for WAL verification",
        };
        write!(
            line,
            " | #{}: rel {}/{}/{} {fork}blk {}{image}",
            block.id, at.tablespace, at.database, at.relation, block.block
        )
        .unwrap();
    }
    if let Event::Transaction(transaction) = parts.event().unwrap() {
        line += &transaction_line(&transaction);
    }
    line
}

fn transaction_line(transaction: &Transaction<'_>) -> String {
    let mut line = format!(" | {:?} {}", transaction.kind, transaction.time);
    if matches!(
        transaction.kind,
        TransactionKind::CommitPrepared | TransactionKind::AbortPrepared
    ) {
        write!(line, " of {}", transaction.xid).unwrap();
    }
    if let Some(gid) = transaction.gid {
        write!(line, " gid {}", str::from_utf8(gid).unwrap()).unwrap();
    }
    let dropped: Vec<_> = transaction.dropped.iter().map(|at| at.relation.to_string()).collect();
    let subtransactions: Vec<_> = transaction.subtransactions.iter().map(|xid| xid.to_string()).collect();
    for (what, numbers) in [("rels", dropped), ("subxacts", subtransactions)] {
        if !numbers.is_empty() {
            write!(line, " {what} {}", numbers.join(" ")).unwrap();
        }
    }
    line
}

/// The same of one line of `pg_waldump`.
fn restated(line: &str) -> String {
    let (head, description) = line.split_once(", desc: ").unwrap();
    let words: Vec<&str> = head
        .split([' ', ':', ',', '/'])
        .filter(|word| !word.is_empty())
        .collect();
    let [
        "rmgr",
        manager,
        "len",
        "(rec",
        "tot)",
        _,
        length,
        "tx",
        xid,
        "lsn",
        high,
        low,
        "prev",
        prev_high,
        prev_low,
    ] = words[..]
    else {
        panic!("{line}")
    };
    let lsn = |high: &str, low: &str| format!("{high}/{low}").parse::<pgformat::Lsn>().unwrap();
    let (at, after) = (lsn(high, low), lsn(prev_high, prev_low));
    let mut restated = format!("{manager} {length} tx {xid} at {at} after {after}");
    // A restore point may be named anything; it refers to no page.
    let blocks = description.split(", blkref ").skip(1);
    for block in blocks.filter(|_| !description.starts_with("RESTORE_POINT")) {
        write!(restated, " | {}", block.trim_end()).unwrap();
    }
    if manager == "Transaction" {
        restated += &transaction_restated(description);
    }
    restated
}

/// `COMMIT 2026-01-01 10:00:00.000001 UTC; rels: base/5/16384; subxacts: 701 702`; before the time of a prepared one
/// stands its id, or its name.
fn transaction_restated(description: &str) -> String {
    let (name, rest) = description.split_once(' ').unwrap();
    let (kind, rest, of, gid) = match name {
        "COMMIT" => ("Commit", rest, None, None),
        "ABORT" => ("Abort", rest, None, None),
        "PREPARE" => {
            let (gid, rest) = rest.strip_prefix("gid ").unwrap().split_once(": 2").unwrap();
            // The part that was cut off together with the mark.
            let cut = rest.len() + 1;
            ("Prepare", &description[description.len() - cut..], None, Some(gid))
        }
        "COMMIT_PREPARED" | "ABORT_PREPARED" => {
            let (of, rest) = rest.split_once(": ").unwrap();
            let kind = if name.starts_with('C') {
                "CommitPrepared"
            } else {
                "AbortPrepared"
            };
            (kind, rest, Some(of), None)
        }
        _ => return String::new(),
    };
    let mut fields = rest.split("; ");
    let mut line = format!(" | {kind} {}", microseconds(fields.next().unwrap()));
    if let Some(of) = of {
        write!(line, " of {of}").unwrap();
    }
    if let Some(gid) = gid {
        write!(line, " gid {gid}").unwrap();
    }
    let fields: Vec<&str> = fields.collect();
    for (what, marks) in [("rels", ["rels: ", "rels(commit): "]), ("subxacts", ["subxacts: "; 2])] {
        let found = fields.iter().find_map(|field| {
            let found = marks.iter().find_map(|mark| field.strip_prefix(mark))?;
            let numbers = found.split_whitespace().map(|path| path.rsplit('/').next().unwrap());
            Some(numbers.collect::<Vec<_>>().join(" "))
        });
        if let Some(numbers) = found {
            write!(line, " {what} {numbers}").unwrap();
        }
    }
    line
}

/// Since 1970, of `2026-01-01 10:00:00.000001 UTC`.
fn microseconds(time: &str) -> i64 {
    let numbers: Vec<i64> = time
        .split([' ', '-', ':', '.'])
        .filter_map(|part| part.parse().ok())
        .collect();
    let [year, month, day, hour, minute, second, micro] = numbers[..] else {
        panic!("{time}")
    };
    // Years that begin in March end with the leap day.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    (((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + micro
}
