//! `wal push` killed: what a server no longer asks for is here.

use std::time::Duration;

use engine::pgformat::Major;

use super::{random, share};
use crate::chosen::Window;
use crate::world::{KEEP, World, code, marked, segment, stderr, switch, write};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_push_left_is_finished_by_the_next_and_nothing_marked_is_missing() {
    let (kills, mut killed) = (share(6), 0);
    let mut random = random();
    // How long a push takes here is found out by killing it too late.
    let mut window = Window::new(Duration::from_millis(300));
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
            let moment = window.moment(&mut random);
            tokio::time::sleep(moment).await;
            child.kill().unwrap();
            let in_time = child.wait().unwrap().code().is_none();
            window.learn(moment, in_time);
            killed += u64::from(in_time);
            // Whatever the server would no longer ask for is here.
            for done in all.iter().filter(|name| !marked(&server, ".ready").contains(name)) {
                let (code, got, said) = world.get(&server, done, &[]);
                assert_eq!(code, 0, "{done}: {said}");
                assert!(got.unwrap() == segment(&server, done));
            }
        }
        let last = world.push(&server, &format!("pg_wal/{}", all[0]));
        assert_eq!(code(&last), 0, "{}", stderr(&last));
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
