//! The receiver with nothing in its way.

use serde_json::Value;

use crate::world::{MOST_MEMORY_KIB, World, lsn};

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_in_order_when_asked_and_stays_small() {
    let world = World::new().await;
    let receiver = world.receive();
    let session = world.server.session().await;
    // What does not compress takes the most memory.
    let load =
        "CREATE TABLE public.noise AS SELECT i, gen_random_uuid() AS a, gen_random_uuid() AS b, gen_random_uuid() AS c
                FROM pg_catalog.generate_series(1, 900000) AS i";
    session.execute("write WAL", load).await.unwrap();
    session.close().await;
    let end = world.flushed().await;
    world.here(end).await;
    let memory = receiver.memory_kib();
    let document = receiver.stop();
    assert_eq!(
        (&document["ok"], &document["command"]),
        (&Value::Bool(true), &"wal receive".into())
    );
    let data = &document["data"];
    assert!(lsn(data["position"].as_str().unwrap()) >= end, "{document}");
    assert!(
        data["bytes"].as_u64().unwrap() > 60 << 20 && data["segments"].as_u64().unwrap() >= 4,
        "{document}"
    );
    assert_eq!((&data["gaps"], &data["timeline"]), (&serde_json::json!([]), &1.into()));
    assert!(memory <= MOST_MEMORY_KIB, "{memory} KiB");
    println!("{memory} KiB resident at most");
    world.is_whole().await;
}
