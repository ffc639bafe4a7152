//! Tables made, changed, moved and dropped by chance.

use testkit::{clusters::TestCluster, sim::Random};

/// How many tables there may be.
const TABLES: u64 = 6;
/// The six kinds of index, over the columns that each can take.
const INDEXES: [&str; 6] = [
    "btree (n)",
    "hash (word)",
    "gist (place)",
    "spgist (place)",
    "gin (tags)",
    "brin (n)",
];

/// Does so many things, one after another. The tables of an earlier call are worked on.
pub(crate) async fn random(cluster: &TestCluster, rng: &mut Random, count: u32) {
    let session = cluster.session().await;
    let mut serial = rng.below(1 << 40);
    for _ in 0..count {
        let table = format!("public.random_{}", rng.below(TABLES));
        serial += 1;
        let make = format!(
            "CREATE TABLE IF NOT EXISTS {table} (n int, word text, place point, tags int[]) WITH (fillfactor = {})",
            50 + rng.below(51)
        );
        let mut statements = vec![make];
        statements.extend(one(rng, &table, serial));
        for statement in statements {
            let done = session.execute("do something", &statement).await;
            done.unwrap_or_else(|error| panic!("{error:?}\n{statement}"));
        }
    }
    session.close().await;
}

fn one(rng: &mut Random, table: &str, serial: u64) -> Vec<String> {
    let some = 1 + rng.below(3000);
    let part = 2 + rng.below(20);
    let fill = format!(
        "INSERT INTO {table} SELECT i, md5((i::bigint * {serial})::text), point(i % 50, i / 50), ARRAY[i % 9, i % 5]
           FROM generate_series(1, {some}) AS i"
    );
    match rng.below(24) {
        0..4 => vec![fill],
        4 | 5 => vec![format!(
            "UPDATE {table} SET word = md5(word), n = n + 1 WHERE n % {part} = 0"
        )],
        6 => vec![format!(
            "UPDATE {table} SET place = point(place[1], place[0] + 1) WHERE n % {part} = 1"
        )],
        7 => vec![format!("DELETE FROM {table} WHERE n % {part} = 0")],
        8 => vec![
            format!("DELETE FROM {table} WHERE n > {some} / 2"),
            format!("VACUUM {table}"),
        ],
        9 => vec![format!("VACUUM (FREEZE) {table}")],
        10 => vec![format!("VACUUM FULL {table}")],
        11 => vec![format!("TRUNCATE {table}")],
        12 => vec![format!("DROP TABLE {table}")],
        13 | 14 => {
            let index = INDEXES[rng.below(6) as usize];
            vec![format!("CREATE INDEX ON {table} USING {index}")]
        }
        15 => vec![
            format!("CREATE INDEX order_{serial} ON {table} (n)"),
            format!("CLUSTER {table} USING order_{serial}"),
            format!("DROP INDEX public.order_{serial}"),
        ],
        16 => vec![
            format!("ALTER TABLE {table} SET UNLOGGED"),
            fill,
            format!("ALTER TABLE {table} SET LOGGED"),
        ],
        17 => vec![
            format!("ALTER TABLE {table} SET TABLESPACE \"elsewhere ü\""),
            fill,
            format!("ALTER TABLE {table} SET TABLESPACE pg_default"),
        ],
        18 => vec!["BEGIN".into(), format!("DROP TABLE {table}"), "ROLLBACK".into(), fill],
        19 => vec![
            "BEGIN".into(),
            "SAVEPOINT a".into(),
            fill.clone(),
            format!("TRUNCATE {table}"),
            "ROLLBACK TO a".into(),
            fill,
            "COMMIT".into(),
        ],
        20 => vec![format!("REINDEX TABLE {table}")],
        21 => prepared(
            vec![fill.clone(), format!("TRUNCATE {table}"), fill],
            part.is_multiple_of(2),
            serial,
        ),
        22 => prepared(
            vec![
                format!("DELETE FROM {table} WHERE n % {part} = 0"),
                "SAVEPOINT a".into(),
                format!("DROP TABLE {table}"),
                "ROLLBACK TO a".into(),
                format!("CREATE INDEX ON {table} USING gist (place)"),
            ],
            part.is_multiple_of(2),
            serial,
        ),
        _ => vec!["CHECKPOINT".into()],
    }
}

/// A transaction in two phases, with a checkpoint between them.
fn prepared(work: Vec<String>, is_kept: bool, serial: u64) -> Vec<String> {
    let end = if is_kept { "COMMIT" } else { "ROLLBACK" };
    let mut statements = vec!["BEGIN".to_string()];
    statements.extend(work);
    statements.push(format!("PREPARE TRANSACTION 'random {serial}'"));
    statements.push("CHECKPOINT".into());
    statements.push(format!("{end} PREPARED 'random {serial}'"));
    statements
}
