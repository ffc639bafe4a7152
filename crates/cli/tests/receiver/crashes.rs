//! The server killed with all its processes, again and again, beside one receiver that nobody starts again.

use crate::{
    chosen::{random, share},
    world::{World, moment},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_crashes_under_load_is_received_on_from_where_it_was() {
    let mut world = World::new().await.with_bank().await;
    let load = world.load(5);
    let mut random = random();
    let mut receiver = world.receive();
    let count = share(2);
    for _ in 0..count {
        world.goes_on(&mut receiver).await;
        moment(&mut random, 1500).await;
        let told = world.acknowledged().await;
        world.server.crash().await;
        world.holds(told, "repository").await;
        world.server.start().await;
    }
    world.goes_on(&mut receiver).await;
    println!("{count} crashes");
    world.lost_nothing(load, receiver).await;
}
