use std::{fs, os::unix::fs::symlink, path::Path};

use futures::executor::block_on;

use super::*;
use crate::source::LocalDirectory;

#[derive(Default)]
struct Collected {
    lines: Vec<String>,
    left_out: Vec<String>,
}

impl Sink for Collected {
    async fn take(&mut self, work: Work) -> Result<()> {
        let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
        match work {
            Work::Directory { path, .. } => self.lines.push(format!("{}/", text(&path))),
            Work::Link { path, target, .. } => self.lines.push(format!("{} -> {}", text(&path), text(&target))),
            Work::Files(files) => self.lines.extend(files.iter().map(|file| text(&file.path))),
            Work::Part {
                file,
                from,
                bytes,
                last,
            } => {
                self.lines.push(format!(
                    "{} {from}+{bytes}{}",
                    text(&file.path),
                    if last { " end" } else { "" }
                ));
            }
        }
        Ok(())
    }

    fn left_out(&mut self, path: &[u8], _: &str) {
        self.left_out.push(String::from_utf8_lossy(path).into_owned());
    }
}

fn walked(root: &Path) -> Collected {
    let mut collected = Collected::default();
    let source = LocalDirectory::new(root.into());
    let spaces = Spaces {
        version_directory: "PG_15_202209061".into(),
        inside: vec![b"inside/space".to_vec()],
        known: vec![16400],
    };
    block_on(walk(&source, &spaces, &mut collected)).unwrap();
    collected
}

fn touch(root: &Path, path: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "x").unwrap();
}

#[test]
fn paths_come_out_in_byte_order_although_directories_lie_between_names() {
    let folder = tempfile::tempdir().unwrap();
    for path in ["a.b", "a/x", "a0", "a/b/c", "a/b.c", "PG_VERSION"] {
        touch(folder.path(), path);
    }
    let lines = walked(folder.path()).lines;
    let paths: Vec<&str> = lines.iter().map(|line| line.trim_end_matches('/')).collect();
    assert_eq!(
        paths,
        ["", "PG_VERSION", "a", "a.b", "a/b", "a/b.c", "a/b/c", "a/x", "a0"]
    );
    assert!(paths.is_sorted());
}

/// Characters before and after the slash, and the longest names that begin with one another.
#[test]
fn paths_come_out_in_byte_order_whatever_directories_begin_with_one_another() {
    let folder = tempfile::tempdir().unwrap();
    let mut names = vec!["a".to_string()];
    for _ in 0..2 {
        let longer = |name: &String| ["", "-", ".", "0"].map(|end| format!("{name}{end}"));
        names = names.iter().flat_map(longer).collect();
    }
    for name in &names {
        touch(folder.path(), &format!("{name}/x"));
    }
    names.sort();
    names.dedup();
    let mut expected: Vec<String> = names
        .iter()
        .flat_map(|name| [name.clone(), format!("{name}/x")])
        .collect();
    expected.push(String::new());
    expected.sort();
    let walked = walked(folder.path()).lines;
    let paths: Vec<&str> = walked.iter().map(|line| line.trim_end_matches('/')).collect();
    assert_eq!(paths, expected);
}

#[test]
fn what_postgresql_leaves_out_is_left_out_and_its_directories_stay() {
    let folder = tempfile::tempdir().unwrap();
    for path in [
        "base/5/16384",
        "base/5/16384_fsm",
        "base/5/16390",
        "base/5/16390_vm",
        "base/5/16390_init",
        "base/5/t3_16400",
        "base/pgsql_tmp/pgsql_tmp1.0",
        "global/pg_control",
        "global/pg_internal.init",
        "pg_replslot/slot/state",
        "pg_stat/pgstat.stat",
        "pg_wal/000000010000000000000001",
        "postmaster.pid",
    ] {
        touch(folder.path(), path);
    }
    let expected = [
        "/",
        "base/",
        "base/5/",
        "base/5/16384",
        "base/5/16384_fsm",
        "base/5/16390_init",
        "global/",
        "pg_replslot/",
        "pg_stat/",
        "pg_stat/pgstat.stat",
        "pg_wal/",
    ];
    assert_eq!(walked(folder.path()).lines, expected);
}

#[test]
fn of_a_tablespace_only_this_clusters_own_folder_is_taken() {
    let (folder, space) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    touch(space.path(), "PG_15_202209061/5/16384");
    touch(space.path(), "PG_14_202107181/5/99999");
    fs::create_dir(folder.path().join("pg_tblspc")).unwrap();
    symlink(space.path(), folder.path().join("pg_tblspc/16400")).unwrap();
    symlink("/elsewhere", folder.path().join("stray")).unwrap();
    // No name that PostgreSQL gives.
    symlink(space.path(), folder.path().join("pg_tblspc/+16400")).unwrap();
    symlink(space.path(), folder.path().join("pg_tblspc/016400")).unwrap();
    let walked = walked(folder.path());
    let link = format!("pg_tblspc/16400 -> {}", space.path().display());
    let version = "pg_tblspc/16400/PG_15_202209061";
    let expected = [
        "/".into(),
        "pg_tblspc/".into(),
        link,
        format!("{version}/"),
        format!("{version}/5/"),
        format!("{version}/5/16384"),
    ];
    assert_eq!(walked.lines, expected);
    assert_eq!(walked.left_out, ["pg_tblspc/+16400", "pg_tblspc/016400", "stray"]);
}

#[test]
fn a_tablespace_inside_the_data_directory_comes_by_its_link_alone() {
    let folder = tempfile::tempdir().unwrap();
    touch(folder.path(), "inside/space/PG_15_202209061/5/16384");
    touch(folder.path(), "inside/spaces");
    fs::create_dir(folder.path().join("pg_tblspc")).unwrap();
    symlink(
        folder.path().join("inside/space"),
        folder.path().join("pg_tblspc/16400"),
    )
    .unwrap();
    let lines = walked(folder.path()).lines;
    let inside: Vec<&String> = lines.iter().filter(|line| line.starts_with("inside")).collect();
    assert_eq!(inside, ["inside/", "inside/space/", "inside/spaces"]);
    assert!(lines.contains(&"pg_tblspc/16400/PG_15_202209061/5/16384".to_string()));
}

#[test]
fn a_link_to_a_tablespace_that_was_not_there_before_ends_the_walk() {
    let (folder, space) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(folder.path().join("pg_tblspc")).unwrap();
    symlink(space.path(), folder.path().join("pg_tblspc/16401")).unwrap();
    let source = LocalDirectory::new(folder.path().into());
    let walked = block_on(walk(&source, &Spaces::default(), &mut Collected::default()));
    assert!(matches!(
        walked,
        Err(Error::Failed {
            code: "tablespace-made",
            ..
        })
    ));
}

#[test]
fn a_large_relation_file_is_cut_into_parts_and_a_large_other_file_is_not() {
    let folder = tempfile::tempdir().unwrap();
    for path in ["base/5/16384", "log/huge.log"] {
        touch(folder.path(), path);
        fs::OpenOptions::new()
            .write(true)
            .open(folder.path().join(path))
            .unwrap()
            .set_len(PART_BYTES * 2 + 8192)
            .unwrap();
    }
    let lines = walked(folder.path()).lines;
    let parts: Vec<&String> = lines.iter().filter(|line| line.starts_with("base/5/16384")).collect();
    let expected = [
        "base/5/16384 0+67108864",
        "base/5/16384 67108864+67108864",
        "base/5/16384 134217728+8192 end",
    ];
    assert_eq!(parts, expected);
    assert!(lines.contains(&"log/huge.log".into()));
}

#[test]
fn a_tablespace_that_cannot_be_seen_fails_the_backup_instead_of_being_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let (root, elsewhere) = (folder.path().join("data"), folder.path().join("space"));
    fs::create_dir_all(root.join("pg_tblspc")).unwrap();
    symlink(&elsewhere, root.join("pg_tblspc/16400")).unwrap();
    let source = LocalDirectory::new(root);
    let spaces = Spaces {
        version_directory: "PG_15_202209061".into(),
        inside: Vec::new(),
        known: vec![16400],
    };
    let refused = || {
        let walked = block_on(walk(&source, &spaces, &mut Collected::default()));
        let judged = check_spaces(&source, &spaces);
        assert_eq!(walked.is_err(), judged.is_err());
        matches!(
            walked,
            Err(Error::Failed {
                code: "tablespace-unreadable",
                ..
            })
        )
    };
    assert!(refused(), "its directory is not there");
    fs::create_dir(&elsewhere).unwrap();
    assert!(refused(), "an empty mount point is in its place");
    fs::create_dir(elsewhere.join("PG_15_202209061")).unwrap();
    assert!(!refused(), "an empty tablespace is whole");
}
