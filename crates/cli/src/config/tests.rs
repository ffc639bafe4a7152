use super::*;
use crate::args::Global;

fn read(text: &str) -> Result<Config> {
    strict::parse(text, Path::new("/etc/lastgood/lastgood.toml"))
}

fn check_refused(text: &str, message: &str, hint: &str) {
    let error = read(text).unwrap_err();
    assert_eq!(error.to_string(), message);
    assert!(error.hint().unwrap_or_default().contains(hint), "{:?}", error.hint());
    assert_eq!(error.exit(crate::exit::Exit::Failed).code(), 2);
}

#[test]
fn every_key_is_read_and_paths_count_from_the_file() {
    let text = "[database.shop]\nrepository = 'backups'\nid = '0123456789abcdef0123456789abcdef'\nkey = 'shop.key'\n\
        server = 'host=/tmp'\nreader = 'sql'\ndata_directory = '/data'\nstandby = 'host=db2'\njobs = 2\ncompress = 'none'\nmax_rate = '50M'\npostgres = '/pg'\n\
        scratch = '/var/tmp'\n";
    let config = read(text).unwrap();
    let entry = &config.databases["shop"];
    assert_eq!(entry.repository, "/etc/lastgood/backups");
    assert_eq!(entry.key.as_deref(), Some(Path::new("/etc/lastgood/shop.key")));
    assert_eq!(entry.max_rate, Some(50 << 20));
    assert_eq!(entry.reader, Some(crate::args::Reader::Sql));
    assert_eq!(entry.compress.map(|level| level.0), Some(engine::backup::Level::None));
}

#[test]
fn the_list_of_keys_is_what_a_section_takes() {
    #[derive(Debug)]
    struct Fields;
    impl<'de> serde::Deserializer<'de> for Fields {
        type Error = serde::de::value::Error;
        fn deserialize_any<V: serde::de::Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(serde::de::Error::custom("not asked"))
        }
        fn deserialize_struct<V: serde::de::Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Self::Error> {
            Err(serde::de::Error::custom(fields.join(" ")))
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    assert_eq!(
        Entry::deserialize(Fields).unwrap_err().to_string(),
        strict::KEYS.join(" ")
    );
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_key_that_was_meant() {
    check_refused(
        "\n[database.shop]\nrepositry = '/srv'\n",
        "/etc/lastgood/lastgood.toml:3: unknown key `repositry` in [database.shop]",
        "`repository`",
    );
    check_refused(
        "[databse.a]\n",
        "/etc/lastgood/lastgood.toml:1: unknown key `databse` at the top level",
        "`database`",
    );
    check_refused(
        "[database.shop]\nzzz = 1\n",
        "/etc/lastgood/lastgood.toml:2: unknown key `zzz` in [database.shop]",
        "known there: repository, id",
    );
}

#[test]
fn values_that_make_no_sense_are_refused_with_their_section() {
    let place = "/etc/lastgood/lastgood.toml:1: [database.a]:";
    let with = |line: &str| format!("[database.a]\nrepository='/r'\n{line}\n");
    check_refused(&with("id = 'x'"), &format!("{place} `id` is not 32 hex digits"), "init");
    check_refused(
        &with("jobs = 0"),
        &format!("{place} `jobs` is not from 1 to 64"),
        "Remove",
    );
    check_refused(
        &with("server = 'host=a password=b'"),
        &format!("{place} `server` holds a password"),
        ".pgpass",
    );
    check_refused(
        &with("key = 'a'\npassphrase_file = 'b'"),
        &format!("{place} more than one of `key`, `passphrase_file`, `passphrase_command`"),
        "Keep one",
    );
    for line in [
        "compress = 20",
        "compress = 'fast'",
        "max_rate = 'quick'",
        "jobs = 'two'",
        "reader = 'ssh'",
        "repository = 1",
        "[",
    ] {
        let error = read(&with(line)).unwrap_err();
        assert!(matches!(&error, Error::Config { .. }), "{line}: {error}");
    }
}

#[test]
fn no_secret_of_a_broken_file_is_repeated() {
    let error = read("[database.a]\nserver = 'postgres://u:hunter2@h/d' x\n").unwrap_err();
    assert!(!format!("{error} {:?}", error.hint()).contains("hunter2"), "{error}");
}

#[test]
fn appending_keeps_every_byte_that_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lastgood.toml");
    let before = "# mine\n[database.a]\nrepository = \"/a\" # kept";
    std::fs::write(&path, before).unwrap();
    let entry = Entry {
        repository: "/srv/\"b\"".into(),
        server: Some("host=/tmp user='o\\'k'".into()),
        ..Entry::default()
    };
    append(&path, "b", &entry).unwrap();
    let after = std::fs::read_to_string(&path).unwrap();
    assert!(after.starts_with(before), "{after}");
    assert_eq!(Config::load(Some(&path), Path::new("/")).unwrap().databases["b"], entry);
}

#[test]
fn passwords_are_seen_in_every_form_of_a_connection_string() {
    for text in [
        "postgres://u:p@h/d",
        "postgresql://h/d?password=p",
        "postgresql://h/d?p%61ssword=p",
        "host=h password=p",
        "password = 'p' host=h",
        "host=h sslpassword=p",
    ] {
        assert!(has_password(text), "{text}");
    }
    for text in [
        "",
        "host=h user=u",
        "postgres://u@h:5432/d",
        "passfile=/x",
        "postgres://[::1]:5432/d",
        "dbname=password",
    ] {
        assert!(!has_password(text), "{text}");
    }
}

#[test]
fn a_flag_goes_before_the_file() {
    let config = read("[database.shop]\nrepository='/r'\npassphrase_command=['x']\nserver='host=/a'\n").unwrap();
    let global = Global {
        key_file: Some("k".into()),
        repository: Some("/other".into()),
        ..Global::default()
    };
    let target = one(&global, &config, Some("shop"), Path::new("/work")).unwrap();
    assert_eq!(target.entry.key.as_deref(), Some(Path::new("/work/k")));
    assert_eq!(target.entry.passphrase_command, None);
    assert_eq!(target.location.to_string(), "/other");
    assert!(target.server.is_some());
}

#[test]
fn a_name_that_nobody_configured_is_not_found_and_the_like_one_is_shown() {
    let config = read("[database.shop]\nrepository='/r'\n[database.crm]\nrepository='/r'\n").unwrap();
    let find = |word: Option<&str>, many| resolve(&Global::default(), &config, word, many, Path::new("/"));
    let error = find(Some("shpo"), Many::All).unwrap_err();
    assert!(error.hint().unwrap().contains("`shop`"));
    assert_eq!(error.exit(crate::exit::Exit::Failed).code(), 6);
    assert_eq!(find(None, Many::All).unwrap().len(), 2);
    assert_eq!(find(None, Many::One).unwrap_err().code(), "usage");
    assert_eq!(find(Some("host=/tmp"), Many::One).unwrap_err().code(), "usage");
}

#[test]
fn who_became_root_by_sudo_is_trusted_as_before_and_nobody_else() {
    assert_eq!(super::caller(0, Some("1000")), 1000);
    assert_eq!(super::caller(0, None), 0);
    assert_eq!(super::caller(0, Some("x")), 0);
    assert_eq!(super::caller(1000, Some("1001")), 1000);
}

#[test]
fn a_file_that_others_can_write_is_read_only_if_it_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lastgood.toml");
    let text = "[database.shop]\nrepository = \"/srv/backups\"\n";
    std::fs::write(&path, text).unwrap();
    let load = |named: Option<&Path>, mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        Config::load(named, folder.path())
    };
    assert!(load(None, 0o644).is_ok());
    for mode in [0o664, 0o646] {
        assert_eq!(load(None, mode).unwrap_err().code(), "configuration-untrusted");
        assert!(load(Some(&path), mode).is_ok());
    }
    assert_eq!(
        [super::others(1000, 1000), super::others(1000, 100), super::others(0, 0)],
        [2, 0o22, 0o22]
    );
}
