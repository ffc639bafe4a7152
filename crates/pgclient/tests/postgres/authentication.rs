use std::{error::Error as _, fs, os::unix::fs::PermissionsExt};

use pgclient::{Conninfo, Error, Replication, Session};

use crate::server::Server;

const CANARY: &str = "canary-secret-55";

/// How a connection of both kinds ends: "ok", "ok tls", or the kind of error.
async fn outcome(conninfo: &Conninfo) -> String {
    let name = |tls: bool| if tls { "ok tls" } else { "ok" }.to_owned();
    let sql = Session::connect(conninfo)
        .await
        .map(|session| name(session.is_encrypted()));
    let replication = Replication::connect(conninfo)
        .await
        .map(|replication| name(replication.is_encrypted()));
    let [sql, replication] = [sql, replication].map(|outcome| outcome.unwrap_or_else(|error| kind(&error)));
    if sql == replication {
        sql
    } else {
        format!("{sql} / {replication}")
    }
}

fn kind(error: &Error) -> String {
    assert_silent(error);
    match error {
        Error::Authentication { sqlstate, .. } => format!("authentication {}", sqlstate.as_deref().unwrap_or("ours")),
        Error::Tls { .. } => "tls".to_owned(),
        Error::Unreachable { .. } => "unreachable".to_owned(),
        other => format!("{other:?}"),
    }
}

/// No secret in an error, its causes or its hint.
fn assert_silent(error: &Error) {
    let mut text = format!("{error} {error:?} {:?}", error.hint());
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(&format!(" {source} {source:?}"));
        cause = source.source();
    }
    assert!(!text.contains(CANARY), "{text}");
}

/// Roles with passwords of both kinds, TLS, and a rule for each way to get in.
async fn server() -> Server {
    let hba = "host all,replication md5_role 127.0.0.1/32 md5\n\
               host all,replication clear_role 127.0.0.1/32 password\n\
               hostssl all,replication tls_role 127.0.0.1/32 scram-sha-256\n\
               hostnossl all,replication plain_role 127.0.0.1/32 scram-sha-256\n\
               host all,replication scram_role 127.0.0.1/32 scram-sha-256\n\
               host all,replication open_role 127.0.0.1/32 trust\n\
               local all,replication clear_role password";
    let mut server = Server::prepare(hba, &[("listen_addresses", "127.0.0.1"), ("ssl", "on")]).await;
    let folder = server.folder.path().to_owned();
    Server::certificate(&folder, "server", "localhost");
    Server::certificate(&folder, "other", "localhost");
    for (setting, file) in [("ssl_cert_file", "server.crt"), ("ssl_key_file", "server.key")] {
        server
            .start
            .options
            .push((setting.to_owned(), folder.join(file).to_str().unwrap().to_owned()));
    }
    server.start().await;
    for role in ["scram_role", "tls_role", "plain_role", "clear_role", "open_role"] {
        server
            .sql(&format!("CREATE ROLE {role} LOGIN REPLICATION PASSWORD '{CANARY}'"))
            .await;
    }
    server
        .sql(&format!(
            "SET password_encryption = md5; CREATE ROLE md5_role LOGIN REPLICATION PASSWORD '{CANARY}'"
        ))
        .await;
    server
}

#[tokio::test]
async fn sql_and_replication_get_in_by_the_same_rules() {
    let server = server().await;
    let with_password = format!("host=localhost hostaddr=127.0.0.1 password={CANARY}");
    for (settings, expected) in [
        // SCRAM with and without TLS, bound and unbound.
        ("user=scram_role", "ok tls"),
        ("user=scram_role sslmode=disable", "ok"),
        ("user=scram_role sslmode=require channel_binding=require", "ok tls"),
        ("user=scram_role sslmode=require channel_binding=disable", "ok tls"),
        (
            "user=scram_role sslmode=disable channel_binding=require",
            "authentication ours",
        ),
        // Other methods; a required binding lets none of them through.
        ("user=md5_role sslmode=disable", "ok"),
        (
            "user=md5_role sslmode=require channel_binding=require",
            "authentication ours",
        ),
        (
            "user=open_role sslmode=require channel_binding=require",
            "authentication ours",
        ),
        ("user=clear_role sslmode=require", "ok tls"),
        (
            "user=clear_role sslmode=require channel_binding=require",
            "authentication ours",
        ),
        // Who insists on TLS, and who only takes what is there.
        ("user=tls_role sslmode=allow", "ok tls"),
        ("user=tls_role sslmode=disable", "authentication 28000"),
        ("user=plain_role sslmode=prefer", "ok"),
        ("user=plain_role sslmode=require", "authentication 28000"),
        // Certificates: chain, name, another's.
        (
            "user=scram_role sslmode=verify-full sslrootcert={folder}/server.crt channel_binding=require",
            "ok tls",
        ),
        (
            "user=scram_role sslmode=verify-ca sslrootcert={folder}/server.crt host=elsewhere",
            "ok tls",
        ),
        (
            "user=scram_role sslmode=verify-full sslrootcert={folder}/server.crt host=elsewhere",
            "tls",
        ),
        (
            "user=scram_role sslmode=verify-ca sslrootcert={folder}/other.crt",
            "tls",
        ),
        ("user=scram_role sslmode=require sslrootcert={folder}/other.crt", "tls"),
        // Wrong secrets and roles.
        ("user=scram_role password=wrong", "authentication 28P01"),
        ("user=md5_role password=wrong", "authentication 28P01"),
        ("user=nobody_role", "authentication 28000"),
    ] {
        let conninfo = server.conninfo(&format!("{with_password} {settings}"));
        assert_eq!(outcome(&conninfo).await, expected, "{settings}");
    }
}

#[tokio::test]
async fn a_replication_password_never_crosses_an_open_network_as_it_is() {
    let server = server().await;
    let plain = server.conninfo(&format!(
        "host=127.0.0.1 user=clear_role sslmode=disable password={CANARY}"
    ));
    let error = Replication::connect(&plain).await.unwrap_err();
    assert_eq!(kind(&error), "authentication ours");
    assert!(error.to_string().contains("clear text"), "{error}");
    let socket = server.conninfo(&format!("host={{socket}} user=clear_role password={CANARY}"));
    assert_eq!(outcome(&socket).await, "ok");
}

#[tokio::test]
async fn a_password_comes_from_the_password_file_unless_others_can_read_it() {
    let server = server().await;
    let file = server.folder.path().join("pass");
    fs::write(&file, format!("127.0.0.1:*:postgres:scram_role:{CANARY}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let conninfo = server.conninfo("host=127.0.0.1 user=scram_role passfile={folder}/pass");
    assert_eq!(outcome(&conninfo).await, "ok tls");

    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    for error in [
        Session::connect(&conninfo).await.unwrap_err(),
        Replication::connect(&conninfo).await.unwrap_err(),
    ] {
        assert_eq!(kind(&error), "authentication ours");
        assert!(error.to_string().contains("run: chmod 0600"), "{error}");
    }
}

#[tokio::test]
async fn the_first_host_that_is_there_is_taken() {
    let server = server().await;
    let settings = format!("host=/nonexistent,{{socket}} user=clear_role password={CANARY}");
    assert_eq!(outcome(&server.conninfo(&settings)).await, "ok");
    let error = Session::connect(&server.conninfo("host=/nonexistent,/nowhere user=u"))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Unreachable { server, .. } if server.contains("/nowhere")),
        "{error:?}"
    );
    let standby = server.conninfo(&format!(
        "host={{socket}} user=clear_role password={CANARY} target_session_attrs=standby"
    ));
    assert_eq!(outcome(&standby).await, "unreachable");
    let primary = server.conninfo(&format!(
        "host={{socket}} user=clear_role password={CANARY} target_session_attrs=primary"
    ));
    assert_eq!(outcome(&primary).await, "ok");
}

#[tokio::test]
async fn a_role_that_may_not_connect_is_told_the_sql_that_helps() {
    let server = server().await;
    server.sql("ALTER ROLE open_role NOREPLICATION").await;
    let error = Replication::connect(&server.conninfo("host=127.0.0.1 user=open_role"))
        .await
        .unwrap_err();
    assert_eq!(
        error.hint().as_deref(),
        Some("Run as a superuser: ALTER ROLE \"open_role\" REPLICATION;")
    );
    server.sql("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC").await;
    let error = Session::connect(&server.conninfo("host=127.0.0.1 user=open_role"))
        .await
        .unwrap_err();
    let grant = "Run as a superuser: GRANT CONNECT ON DATABASE \"postgres\" TO \"open_role\";";
    assert_eq!(error.hint().as_deref(), Some(grant));
}
