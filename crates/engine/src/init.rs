//! Makes the folder of a database, after trying out what the store does.

use repo::{
    Repository,
    keys::Unlock,
    ledger::Entry,
    store::{Location, Put, Store},
};
use serde::Serialize;

use crate::{Error, Result, database::Opened, event::Context};

/// What `init` made.
#[derive(Debug, Clone, Serialize)]
pub struct Initialised {
    /// The folder's name.
    pub name: String,
    /// The repository.
    pub location: String,
    /// Drawn for it; configuration pins it.
    pub database_id: String,
    /// What the store was found to do.
    pub probe: Vec<String>,
}

/// Makes the folder `name`. Where an earlier `init` with the same `unlock` was cut off, it goes on.
///
/// # Errors
/// [`repo::Error::Foreign`] if there is a finished repository of that name; [`Error::Refused`] if the store
/// lets a second create win.
pub async fn run(context: &Context, location: &Location, name: &str, unlock: &Unlock) -> Result<Initialised> {
    let store = location.database(name, true)?;
    run_in(context, store, &location.to_string(), name, unlock).await
}

/// Makes the folder in `store`.
pub async fn run_in(
    context: &Context,
    store: std::sync::Arc<dyn Store>,
    location: &str,
    name: &str,
    unlock: &Unlock,
) -> Result<Initialised> {
    context.step("probe", "trying out the repository");
    let probe = probe(context, &*store).await?;
    context.step("create", "making keys");
    let repository = Repository::create(store, context.runtime.clone(), name, unlock).await?;
    let database_id = repository.identity().database.clone();
    // The first entry proves that the ledger works, while nothing depends on it yet.
    let opened = Opened::new(repository).await?;
    if opened.with_state(|state| state.last()).await == 0 {
        opened.begin_session().await?;
        opened.append(Entry::NoOp {}).await?;
    }
    Ok(Initialised {
        name: name.into(),
        location: location.into(),
        database_id,
        probe,
    })
}

/// Tries what everything rests on: that the second create of a name loses, and that what was written is read
/// back at once, whole and in parts.
pub async fn probe(context: &Context, store: &dyn Store) -> Result<Vec<String>> {
    let name = format!("probe/{}", hex::encode(context.runtime.random::<8>()));
    let ours = bytes::Bytes::from(context.runtime.random::<64>().to_vec());
    let result = try_out(store, &name, &ours).await;
    // Nothing of the probe stays, whatever came of it.
    let gone = store.delete(&name).await;
    let found = result?;
    gone?;
    Ok(found)
}

async fn try_out(store: &dyn Store, name: &str, ours: &bytes::Bytes) -> Result<Vec<String>> {
    let unfit = |what: &str| {
        Error::Refused {
        code: "store-unfit",
        what: format!("the repository's store {what}"),
        hint: "Use a store that honours create-if-absent: a local file system, or an object store that supports conditional writes.".into(),
    }
    };
    // A lost answer makes our own first create answer `Exists`; what counts is whose bytes are there.
    store.put_new(name, ours.clone()).await?;
    let second = store
        .put_new(name, bytes::Bytes::from_static(b"the second create"))
        .await?;
    let read = store.get(name).await?;
    if second == Put::Created || read.as_ref() != Some(ours) {
        return Err(unfit("lets a second create of a name win"));
    }
    if store.get_range(name, 10, 20).await?.as_deref() != Some(&ours[10..30]) {
        return Err(unfit("does not give exactly the range asked for"));
    }
    let listed = store.list_after("probe/", "", 1000).await?;
    if !listed
        .iter()
        .any(|listed| listed.name == name && listed.size == ours.len() as u64)
    {
        return Err(unfit("does not list what was just written"));
    }
    Ok(vec![
        "a second create of a name loses".into(),
        "what is written is read back at once, whole and in parts".into(),
        "what is written is listed at once".into(),
    ])
}
