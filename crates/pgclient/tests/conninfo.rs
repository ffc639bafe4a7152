//! Connection strings mean what they mean to libpq, and their passwords stay inside.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail like tests"
)]

use std::{fs, os::unix::fs::PermissionsExt};

use pgclient::{
    Conninfo, Error,
    conninfo::{ChannelBinding, SslMode, SslRoot, TargetSession},
};

const CANARY: &str = "canary-7f3a91";

fn parse_with(text: &str, variables: &[(&str, &str)]) -> Result<Conninfo, Error> {
    // A home without files, so that the tests do not depend on whose machine they run.
    let lookup = |name: &str| {
        let found = variables
            .iter()
            .find(|(variable, _)| *variable == name)
            .map(|(_, value)| (*value).to_owned());
        found.or_else(|| (name == "HOME").then(|| "/nonexistent".to_owned()))
    };
    Conninfo::parse(text, &lookup)
}

fn summary(conninfo: &Conninfo) -> String {
    let hosts: Vec<_> = conninfo.hosts().iter().map(ToString::to_string).collect();
    format!("{} {}@{}", conninfo.dbname(), conninfo.user(), hosts.join(","))
}

/// What a string, with variables, means: `database user@host:port,…`.
#[track_caller]
fn check(text: &str, variables: &[(&str, &str)], expected: &str) {
    let conninfo = parse_with(text, variables).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(summary(&conninfo), expected, "{text}");
    // What is stored in a configuration means the same without the environment.
    let stored = parse_with(&conninfo.to_string_without_password(), &[]).unwrap();
    assert_eq!(summary(&stored), expected, "{text} after being stored");
}

/// The message for a string that makes no sense.
#[track_caller]
fn refused(text: &str, expected: &str) {
    match parse_with(text, &[("PGUSER", "u")]) {
        Err(error) => assert_eq!(error.to_string(), expected, "{text}"),
        Ok(conninfo) => panic!("{text} was taken as {conninfo}"),
    }
}

#[test]
fn pairs_are_read_as_libpq_reads_them() {
    check("host=h user=u", &[], "u u@h:5432");
    check(" host = h  port=1  user = 'a b' dbname='it\\'s' ", &[], "it's a b@h:1");
    check(r"host=h user=a\ b dbname=x\\y", &[], r"x\y a b@h:5432");
    check("host=a,b port=1,2 user=u", &[], "u u@a:1,b:2");
    check("host=a,b,/run port=7 user=u", &[], "u u@a:7,b:7,/run/.s.PGSQL.7");
    check("host=name hostaddr=127.0.0.1 user=u", &[], "u u@name:5432");
    check("hostaddr=::1 user=u", &[], "u u@[::1]:5432");
    check("user=first user=last host=h", &[], "last last@h:5432");
    check(
        "user=u",
        &[],
        "u u@/var/run/postgresql/.s.PGSQL.5432,/tmp/.s.PGSQL.5432",
    );
}

#[test]
fn uris_are_read_as_libpq_reads_them() {
    check("postgresql://u@h/db", &[], "db u@h:5432");
    check("postgres://u:p%40%2F@h:1/d%20b?sslmode=require", &[], "d b u@h:1");
    check("postgresql://u@a:1,b:2,c/db", &[], "db u@a:1,b:2,c:5432");
    check("postgresql://u@[::1]:7/db", &[], "db u@[::1]:7");
    check(
        "postgresql:///db?host=/run/pg&user=u&port=7",
        &[],
        "db u@/run/pg/.s.PGSQL.7",
    );
    check("postgresql://u@%2Frun%2Fpg/db", &[], "db u@/run/pg/.s.PGSQL.5432");
    check("postgresql://", &[("PGUSER", "u"), ("PGHOST", "h")], "u u@h:5432");
}

#[test]
fn the_environment_fills_in_what_the_string_leaves_open() {
    let variables = [("PGHOST", "h"), ("PGPORT", "7"), ("PGUSER", "u"), ("PGDATABASE", "d")];
    check("", &variables, "d u@h:7");
    check("port=8 dbname=x", &variables, "x u@h:8");
    check(
        "",
        &[("PGUSER", "u"), ("PGHOST", "")],
        "u u@/var/run/postgresql/.s.PGSQL.5432,/tmp/.s.PGSQL.5432",
    );
}

#[test]
fn a_service_comes_before_the_environment_and_after_the_string() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("services");
    fs::write(
        &file,
        "# c\n[other]\nhost=no\n[main]\nhost=s\nport=7\nuser = u\n[main2]\nhost=no\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    check("service=main", &[("PGSERVICEFILE", file), ("PGHOST", "env")], "u u@s:7");
    check("port=8", &[("PGSERVICEFILE", file), ("PGSERVICE", "main")], "u u@s:8");
    let error = parse_with("service=none", &[("PGSERVICEFILE", file)])
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("no service \"none\" in "), "{error}");
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    refused(
        "sslmod=require",
        "connection string: unknown keyword \"sslmod\"; did you mean \"sslmode\"?",
    );
    refused("database=x", "connection string: unknown keyword \"database\"");
    refused(
        "requirepeer=x",
        "connection string: lastgood does not support the keyword \"requirepeer\"",
    );
    refused("host", "connection string: a keyword without \"=\" at its beginning");
    refused(
        "host=h user",
        "connection string: a keyword without \"=\" after \"host\"",
    );
    refused("host='h", "connection string: the quoted value of \"host\" has no end");
    refused("port=0", "port is \"0\"; it must be a number from 1 to 65535");
    refused("host=a,b port=1,2,3", "3 values in port for 2 hosts");
    refused("host=a,b hostaddr=127.0.0.1", "2 values in host, 1 in hostaddr");
    refused(
        "sslmode=on",
        "sslmode is \"on\"; it must be one of disable, allow, prefer, require, verify-ca, verify-full",
    );
    refused(
        "sslrootcert=system sslmode=require",
        "sslrootcert=system needs sslmode=verify-full",
    );
    refused(
        "sslnegotiation=direct",
        "sslnegotiation=direct needs sslmode=require or stronger",
    );
    refused(
        "connect_timeout=soon",
        "connect_timeout is \"soon\"; it must be whole seconds",
    );
    refused("postgresql://h:x/db", "connection URI: a port is not a number");
    refused(
        "postgresql://h/%zz",
        "connection URI: the dbname has a wrong percent-encoding",
    );
    refused("postgresql://[::1/db", "connection URI: \"[\" in a host without \"]\"");
}

#[test]
fn security_settings_have_libpqs_defaults() {
    let plain = parse_with("user=u", &[]).unwrap();
    assert_eq!(plain.ssl_mode(), SslMode::Prefer);
    assert_eq!(plain.channel_binding(), ChannelBinding::Prefer);
    assert_eq!(plain.target(), TargetSession::Any);
    let system = parse_with("user=u sslrootcert=system", &[]).unwrap();
    assert_eq!(
        (system.ssl_mode(), system.ssl_root()),
        (SslMode::VerifyFull, &SslRoot::System)
    );
}

#[test]
fn a_password_is_in_no_text_that_a_conninfo_makes() {
    let strings = [
        format!("host=h user=u password={CANARY}"),
        format!("postgresql://u:{CANARY}@h/db"),
        format!("postgresql://u@h/db?password={CANARY}"),
    ];
    for text in strings {
        let conninfo = parse_with(&text, &[]).unwrap();
        assert!(
            conninfo.to_redacted_string().ends_with("password=********"),
            "{conninfo}"
        );
        for made in [
            format!("{conninfo}"),
            format!("{conninfo:?}"),
            conninfo.to_string_without_password(),
        ] {
            assert!(!made.contains(CANARY), "{made}");
        }
    }
    let conninfo = parse_with("user=u", &[("PGPASSWORD", CANARY)]).unwrap();
    assert!(!format!("{conninfo:?} {conninfo}").contains(CANARY));
}

#[test]
fn a_password_is_in_no_error_about_a_string_that_it_breaks() {
    let strings = [
        format!("host=h password=a {CANARY}"),
        format!("host=h password=a {CANARY}=b"),
        format!("host=h password='{CANARY}"),
        format!("postgresql://u:a/{CANARY}@h/db"),
        format!("postgresql://u:a?{CANARY}@h/db"),
        format!("postgresql://u:{CANARY}%zz@h/db"),
        format!("postgresql://u:{CANARY}"),
    ];
    for text in strings {
        let error = parse_with(&text, &[("PGUSER", "u")]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(CANARY), "{error}");
    }
}

#[test]
fn every_prefix_of_a_string_is_read_or_refused_without_panic() {
    for text in [
        "postgresql://ü:p%C3%BC@[::1]:1,h:2/dä?host=%2Fx&port=3",
        "host='ü\\'' password=\\ü port = 1 user=ü",
    ] {
        for (end, _) in text.char_indices() {
            drop(parse_with(&text[..end], &[("PGUSER", "u")]));
        }
    }
}

#[test]
fn a_password_file_path_survives_storing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pass file");
    fs::write(&file, "*:*:*:*:secret\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let conninfo = parse_with("user=u", &[("PGPASSFILE", file.to_str().unwrap())]).unwrap();
    assert!(
        conninfo
            .to_string_without_password()
            .contains(&format!("passfile='{}'", file.display()))
    );
}
