//! Something happens while files are copied.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use engine::{
    event::{Context, Event, Observer},
    repo::runtime::{Clock, Runtime},
};
use futures::future::BoxFuture;

/// Stands still at the first word of a kind, until it is let go.
pub(crate) struct Halfway {
    at: fn(&Event) -> bool,
    there: async_channel::Sender<()>,
    go_on: Mutex<mpsc::Receiver<()>>,
}

impl Observer for Halfway {
    fn event(&self, event: Event) {
        if (self.at)(&event) && self.there.try_send(()).is_ok() {
            // Whatever else this thread had to do, another one does.
            let _ = tokio::task::block_in_place(|| self.go_on.lock().unwrap().recv());
        }
    }
}

/// A context that stands still there; who hears that it does; and what lets it go on when it is dropped.
pub(crate) fn halfway(
    context: &Context,
    at: fn(&Event) -> bool,
) -> (Context, async_channel::Receiver<()>, mpsc::Sender<()>) {
    let (there, heard) = async_channel::bounded(1);
    let (go, go_on) = mpsc::channel();
    let observer = Arc::new(Halfway {
        at,
        there,
        go_on: Mutex::new(go_on),
    });
    let context = Context {
        observer,
        ..context.clone()
    };
    (context, heard, go)
}

/// When the first file was copied.
pub(crate) fn copying(event: &Event) -> bool {
    matches!(event, Event::Progress { .. })
}

/// When a standby is waited for.
pub(crate) fn waiting(event: &Event) -> bool {
    matches!(event, Event::Step { step: "standby", .. })
}

/// Returns when it stands still there; a backup that failed before never does.
pub(crate) async fn stands_still(there: &async_channel::Receiver<()>) {
    let heard = tokio::time::timeout(Duration::from_secs(60), there.recv()).await;
    heard.expect("the backup comes so far").expect("somebody says so");
}

/// Seconds that pass so many times as fast.
struct Hasty(Runtime, u32);

impl Clock for Hasty {
    fn now_micros(&self) -> i64 {
        self.0.clock.now_micros()
    }
    fn monotonic(&self) -> Duration {
        self.0.clock.monotonic() * self.1
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.clock.sleep(duration.min(Duration::from_millis(500)))
    }
}

/// A context to which a wait of minutes is over soon.
pub(crate) fn hasty(context: &Context, times: u32) -> Context {
    Context {
        runtime: Runtime {
            clock: Arc::new(Hasty(context.runtime.clone(), times)),
            ..context.runtime.clone()
        },
        ..context.clone()
    }
}
