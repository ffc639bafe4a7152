//! `wal push` killed: what a server no longer asks for is here.

use std::time::{Duration, Instant};

use engine::pgformat::Major;

use super::{random, share};
use crate::world::{KEEP, World, code, marked, segment, stderr, switch, write};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_push_left_is_finished_by_the_next_and_nothing_marked_is_missing() {
    let (kills, mut killed) = (share(6), 0);
    let mut random = random();
    let mut whole = Duration::from_millis(150);
    // The first world tells how long a push takes here: no kill may have come in time.
    for _ in 0..kills + 3 {
        if killed >= kills {
            break;
        }
        let world = World::new();
        let server = world.server(Major::V15, 1, KEEP).await;
        write(&server, 16).await;
        switch(&server).await;
        let all = marked(&server, ".ready");
        for _ in 0..6 {
            let Some(first) = marked(&server, ".ready").first().cloned() else {
                break;
            };
            let path = format!("pg_wal/{first}");
            let mut child = world
                .command(server.data_dir(), &["wal", "push", &path, "shop"])
                .spawn()
                .unwrap();
            tokio::time::sleep(Duration::from_micros(random.below(whole.as_micros() as u64))).await;
            child.kill().unwrap();
            killed += u64::from(child.wait().unwrap().code().is_none());
            // Whatever the server would no longer ask for is here.
            for done in all.iter().filter(|name| !marked(&server, ".ready").contains(name)) {
                let (code, got, said) = world.get(&server, done, &[]);
                assert_eq!(code, 0, "{done}: {said}");
                assert!(got.unwrap() == segment(&server, done));
            }
        }
        let began = Instant::now();
        let last = world.push(&server, &format!("pg_wal/{}", all[0]));
        assert_eq!(code(&last), 0, "{}", stderr(&last));
        whole = began
            .elapsed()
            .clamp(Duration::from_millis(30), Duration::from_millis(300));
        for name in &all {
            assert!(
                world.get(&server, name, &[]).1.unwrap() == segment(&server, name),
                "{name}"
            );
        }
    }
    println!("{killed} pushes were killed");
    assert!(killed > 0, "no push was killed in time");
}
