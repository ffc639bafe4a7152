use super::*;
use crate::{
    BackupId, Error,
    ledger::Lsn,
    names,
    series::pin_of,
    sources::Sources,
    test_folder::{TestFolder, id, reaction},
};
use futures::executor::block_on;
use proptest::prelude::*;

fn manifest(folder: &TestFolder) -> Manifest {
    let mut sources = Sources::new(id(0));
    sources.intern(id(1));
    let object = |source, number| ObjectRef {
        source,
        number,
        size: 32 << 20,
        directory: 4000,
        hash: [number as u8; 32],
        holds: 1,
        used: 1,
    };
    Manifest {
        facts: facts(folder),
        needed: Needed {
            sources,
            packs: vec![object(0, 0), object(0, 1), object(1, 0)],
            maps: vec![object(1, 9)],
        },
        kept: vec![kept("backup_label"), kept("global/pg_control")],
        relations: vec![Relation {
            database: "app".into(),
            schema: "public".into(),
            table: "orders".into(),
            rows: None,
            bytes: 1 << 40,
        }],
    }
}

fn kept(path: &str) -> KeptFile {
    KeptFile {
        path: path.into(),
        mode: 0o600,
        content: b"START WAL LOCATION".to_vec(),
    }
}

fn facts(folder: &TestFolder) -> Facts {
    Facts {
        backup: id(0),
        database: folder.repository.identity().database.clone(),
        kind: Kind::Incremental,
        parent: Some(id(1)),
        increment: Some(Increment {
            by: ChangesBy::Hashes,
            why: Some("no WAL".into()),
            stored: 1,
            same: 2,
            kept: 3,
            audited: 1,
            moved: 0,
        }),
        label: Some("before the upgrade".into()),
        started: 1_700_000_000_000_000,
        stopped: 1_700_000_100_000_000,
        tool: "0.1.0".into(),
        postgresql: Postgresql {
            version: "15.18".into(),
            version_num: 150_018,
            generation: 7_300_000_000_000_000_001,
            catalog_version: 202_209_061,
            control_version: 1300,
            block_size: 8192,
            wal_block_size: 8192,
            segment_size: 16 << 20,
            relation_segment_blocks: 131_072,
            data_checksums: true,
            superuser: "postgres".into(),
            collations: vec![Collation {
                database: "app".into(),
                provider: "c".into(),
                version: Some("2.36".into()),
            }],
        },
        start: Start {
            lsn: Lsn(0x1_0000_0028),
            timeline: 2,
        },
        stop: Stop {
            lsn: Lsn(0x1_0100_0000),
            timeline: 2,
            record: Lsn(0x1_0000_0100),
        },
        history: vec![Ancestor {
            timeline: 1,
            end: Lsn(0x5000_0000),
        }],
        tablespaces: vec![Tablespace {
            oid: 16400,
            name: "fast".into(),
            location: "/mnt/fast".into(),
            bytes: 3,
        }],
        owner: Owner {
            user: "postgres".into(),
            group: "postgres".into(),
        },
        objects: TableObjects {
            files: vec![Pinned {
                size: 5,
                hash: "ab".repeat(32),
            }],
        },
        totals: Totals {
            page_errors: 1,
            ..Totals::default()
        },
        page_errors: vec![PageError {
            path: "base/5/1259".into(),
            block: 3,
        }],
    }
}

#[test]
fn a_manifest_reads_back_whole_and_in_parts() {
    let folder = TestFolder::new();
    let manifest = manifest(&folder);
    block_on(async {
        let sealed = manifest.seal(&folder.repository, &folder.session).unwrap();
        assert_eq!(sealed.name, names::manifest(&id(0)));
        folder.repository.put_finished(&sealed).await.unwrap();
        let pin = Some(pin_of(&sealed));
        let read = Manifest::read(&folder.repository, &id(0), pin).await.unwrap();
        assert_eq!(read, manifest);
        assert_eq!(
            Needed::read(&folder.repository, &id(0), pin).await.unwrap(),
            manifest.needed
        );
        assert_eq!(
            Facts::read(&folder.repository, &id(0), None).await.unwrap(),
            manifest.facts
        );

        let pin = pin.map(|pin| crate::envelope::Pin {
            size: pin.size,
            hash: [0; 32],
        });
        assert_eq!(
            reaction(Manifest::read(&folder.repository, &id(0), pin).await),
            "damaged"
        );
        assert_eq!(
            reaction(Manifest::read(&folder.repository, &id(1), None).await),
            "missing"
        );
    });
}

#[test]
fn the_facts_are_written_as_the_format_says() {
    let json = serde_json::to_string(&facts(&TestFolder::new())).unwrap();
    for part in [
        r#""backup":"20231114T221320Z-000000","#,
        r#""kind":"incremental","parent":"20231114T221320Z-100000","#,
        r#""generation":"7300000000000000001","#,
        r#""start":{"lsn":"1/28","timeline":2},"stop":{"lsn":"1/1000000","timeline":2,"record":"1/100"},"#,
        r#""history":[{"timeline":1,"end":"0/50000000"}],"#,
    ] {
        assert!(json.contains(part), "{part} is not in {json}");
    }
}

#[test]
fn a_key_that_nobody_knows_is_refused() {
    let json = serde_json::to_string(&facts(&TestFolder::new())).unwrap();
    assert!(serde_json::from_str::<Facts>(&json).is_ok());
    for (from, to) in [
        (r#""tool":"#, r#""surprise":1,"tool":"#),
        (r#""oid":"#, r#""surprise":1,"oid":"#),
        (r#""generation":"73"#, r#""generation":"073"#),
        (r#""generation":"7300000000000000001""#, r#""generation":73"#),
        (r#""lsn":"1/28""#, r#""lsn":"1/+28""#),
        (r#""parent":"2023"#, r#""parent":"../2023"#),
    ] {
        let changed = json.replacen(from, to, 1);
        assert_ne!(changed, json);
        assert!(serde_json::from_str::<Facts>(&changed).is_err(), "{to} was taken");
    }
}

#[test]
fn a_manifest_that_contradicts_itself_is_not_sealed() {
    let folder = TestFolder::new();
    type Change = fn(&mut Manifest);
    let changes: [(&str, Change); 18] = [
        ("a full backup with a parent", |m| m.facts.kind = Kind::Full),
        ("an incremental backup without one", |m| m.facts.parent = None),
        ("its own parent", |m| m.facts.parent = Some(id(0))),
        ("another database", |m| m.facts.database = "0".repeat(32)),
        ("another backup's packs", |m| m.facts.backup = id(2)),
        ("an end before its begin", |m| m.facts.stopped = 0),
        ("a stop before its start", |m| m.facts.stop.lsn = Lsn(1)),
        ("consistency after its stop", |m| m.facts.stop.record = m.facts.stop.lsn),
        ("a start on another timeline", |m| m.facts.start.timeline = 1),
        ("a later timeline before", |m| m.facts.history[0].timeline = 2),
        ("no block size", |m| m.facts.postgresql.block_size = 0),
        ("no segment size", |m| m.facts.postgresql.segment_size = 3 << 20),
        ("a hash that is none", |m| m.facts.objects.files[0].hash.push('a')),
        ("uncounted damaged pages", |m| m.facts.totals.page_errors = 0),
        ("a pack named twice", |m| m.needed.packs[1] = m.needed.packs[0]),
        ("a pack of nobody", |m| m.needed.packs[2].source = 2),
        ("a kept file outside", |m| m.kept[0].path = b"../x".to_vec()),
        ("a kept file twice", |m| m.kept[1] = m.kept[0].clone()),
    ];
    for (what, change) in changes {
        let mut manifest = manifest(&folder);
        change(&mut manifest);
        let sealed = manifest.seal(&folder.repository, &folder.session);
        assert!(matches!(sealed, Err(Error::Damaged { .. })), "{what} was sealed");
    }
}

#[test]
fn the_wal_a_restore_needs_follows_the_timelines() {
    let mut facts = facts(&TestFolder::new());
    let range = |timeline, from, to| WalRange {
        timeline,
        from: Lsn(from),
        to: Lsn(to),
    };
    assert_eq!(facts.wal_needed(), [range(2, 0x1_0000_0028, 0x1_0100_0000)]);
    facts.history[0].end = Lsn(0x1_0000_2000);
    assert_eq!(
        facts.wal_needed(),
        [
            range(1, 0x1_0000_0028, 0x1_0000_2000),
            range(2, 0x1_0000_2000, 0x1_0100_0000)
        ]
    );
}

#[test]
fn an_object_is_found_by_whose_it_is() {
    let needed = manifest(&TestFolder::new()).needed;
    let at = |backup: &BackupId, number| needed.pack(backup, number).map(|pack| (pack.source, pack.number));
    assert_eq!(
        (at(&id(0), 1), at(&id(1), 0), at(&id(1), 1), at(&id(2), 0)),
        (Some((0, 1)), Some((1, 0)), None, None)
    );
    assert_eq!(needed.map(&id(1), 9).map(|map| map.pin().size), Some(32 << 20));
    assert_eq!(needed.map(&id(0), 9), None);
}

#[test]
fn a_list_longer_than_its_bytes_is_refused() {
    let folder = TestFolder::new();
    let bytes = manifest(&folder).needed.encode();
    for length in 0..bytes.len() {
        assert!(
            Needed::decode(&bytes[..length], &id(0)).is_err(),
            "{length} bytes were taken"
        );
    }
    assert!(Needed::decode(&bytes, &id(1)).is_err());
    let mut more = bytes.clone();
    more.push(0);
    assert!(Needed::decode(&more, &id(0)).is_err());
}

proptest! {
    #[test]
    fn no_bytes_panic_a_manifest(bytes: Vec<u8>) {
        let _ = (Needed::decode(&bytes, &id(0)), kept::decode(&bytes));
        let mut framed = crate::test_folder::owner_only(id(0));
        framed.extend_from_slice(&bytes);
        let _ = Needed::decode(&framed, &id(0));
    }

    #[test]
    fn kept_files_read_back(content: Vec<u8>, mode in 0u32..=0o7777) {
        let files = vec![KeptFile { mode, content, ..kept("global/pg_control") }];
        prop_assert_eq!(kept::decode(&kept::encode(&files)), Ok(files));
    }
}
