//! Rows counted by reading a table, and by each of its indexes alone, of all six kinds.

use std::collections::BTreeSet;

use engine::pgclient::Session;
use testkit::clusters::TestCluster;

/// The tables of [`super::load`] and [`super::ddl`], and their indexes.
const INDEXES: &str = "
    SELECT heap.relname::text, relation.relname::text, method.amname::text
      FROM pg_index AS index
      JOIN pg_class AS relation ON relation.oid = index.indexrelid
      JOIN pg_class AS heap ON heap.oid = index.indrelid
      JOIN pg_am AS method ON method.oid = relation.relam
     WHERE index.indisvalid AND heap.relpersistence = 'p' AND heap.relname ~ '^(lasting|random_)'
     ORDER BY 1, 2";

/// A condition that every row meets, and that an index of that kind can look for.
fn condition(table: &str, kind: &str) -> String {
    match kind {
        "btree" | "brin" => "n > -1000000".into(),
        "hash" => format!("word = ANY (ARRAY(SELECT word FROM public.{table}))"),
        "gist" | "spgist" => "place <@ box '((-1,-1),(1000000,1000000))'".into(),
        "gin" => "tags && ARRAY[0, 1, 2, 3, 4, 5, 6, 7, 8]".into(),
        other => panic!("an index of the kind {other}"),
    }
}

/// What differs, and the kinds of index that were looked at.
pub(crate) async fn counted(server: &TestCluster) -> (Vec<String>, BTreeSet<String>) {
    let session = server.session().await;
    let (mut findings, mut kinds) = (Vec::new(), BTreeSet::new());
    for row in session.query("list indexes", INDEXES, &[]).await.unwrap() {
        let (table, index, kind): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let count = format!("SELECT count(*) FROM public.{table}");
        let all = number(&session, &count).await;
        // Rolled back: no other index is there for a while, and the table is not read.
        let alone = format!(
            "BEGIN; SET LOCAL enable_seqscan = off;
             UPDATE pg_index SET indisvalid = false WHERE indrelid = 'public.{table}'::regclass
                AND indexrelid <> 'public.{index}'::regclass"
        );
        session.execute("leave one index", &alone).await.unwrap();
        let by_index = format!("{count} WHERE {}", condition(&table, &kind));
        let plan = session
            .query("ask how", &format!("EXPLAIN {by_index}"), &[])
            .await
            .unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
        assert!(plan.iter().any(|line| line.contains(&index)), "{plan:#?}");
        let found = number(&session, &by_index).await;
        session.execute("have all again", "ROLLBACK").await.unwrap();
        if found != all {
            findings.push(format!("{table} has {all} rows, {found} by {index}, {kind}"));
        }
        kinds.insert(kind);
    }
    session.close().await;
    (findings, kinds)
}

async fn number(session: &Session, query: &str) -> i64 {
    let row = session.query_one("count", query, &[]).await;
    row.unwrap_or_else(|error| panic!("{error:?}\n{query}")).get(0)
}
