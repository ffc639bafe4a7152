//! A server that is only reached by SQL, protected by a role that may do little.

use testkit::clusters::{Options, TestCluster};

use super::{code, document, empty, lastgood, stderr, stdout};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_through_sql_is_asked_for_by_flag_or_configuration() {
    let options = Options {
        conf: vec!["fsync = on".into(), "wal_keep_size = 64MB".into()],
        ..Options::default()
    };
    let server = TestCluster::new(engine::pgformat::Major::V15, options).await;
    let sql = async |statement: &str| {
        let session = server.session().await;
        session.execute("prepare the test", statement).await.unwrap();
        session.close().await;
    };
    sql("CREATE ROLE poor LOGIN").await;
    let folder = empty();
    let conninfo = server.conninfo_text().replace("user=postgres", "user=poor");
    let named = format!("shop={conninfo}");
    let words = [
        "init",
        "--repository",
        "backups",
        "--config",
        "lastgood.toml",
        "--database",
        &named,
    ];
    let made = lastgood(folder.path(), &words);
    assert_eq!(code(&made), 0, "{}", stderr(&made));

    // Doctor says what to grant and what that means; that very line is enough.
    let words = ["doctor", "shop", "--reader", "sql"];
    let told = stdout(&lastgood(folder.path(), &words));
    let said = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("can read everything in the data directory"), "{told}");
    assert!(said.contains("password hashes"), "{told}");
    let grant = told.lines().find_map(|line| line.trim().strip_prefix("-> GRANT"));
    sql(&format!("GRANT{}", grant.unwrap())).await;
    let sound = lastgood(folder.path(), &words);
    assert_eq!(code(&sound), 0, "{}{}", stdout(&sound), stderr(&sound));

    // Never by itself: without being asked for, it is refused for the lack of replication.
    let local = lastgood(folder.path(), &["backup", "shop", "--json"]);
    assert_eq!(
        document(&local)["error"]["code"],
        "no-replication-right",
        "{}",
        stdout(&local)
    );
    let by_flag = lastgood(folder.path(), &["backup", "shop", "--reader", "sql", "--json"]);
    assert_eq!(document(&by_flag)["ok"], true, "{}", stdout(&by_flag));
    let path = folder.path().join("lastgood.toml");
    let text = std::fs::read_to_string(&path).unwrap() + "reader = \"sql\"\n";
    std::fs::write(&path, text).unwrap();
    let by_key = lastgood(folder.path(), &["backup", "shop", "--json"]);
    assert_eq!(document(&by_key)["ok"], true, "{}", stdout(&by_key));
    let verified = lastgood(folder.path(), &["verify", "shop", "--json"]);
    assert_eq!(document(&verified)["ok"], true, "{}", stdout(&verified));
}
