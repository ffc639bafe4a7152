//! `lastgood point`: gives the present moment a name.

use engine::pgclient::point::{self, MAX_NAME};

use crate::{
    Error, Result,
    args::{Global, Point},
    commands::Run,
    config,
    output::Outcome,
    render,
};

/// Makes the point.
pub(crate) async fn run(run: &Run, args: &Point) -> Result<Outcome> {
    // No repository is needed here, so no folder in it: the name is the moment's.
    let global = Global {
        name: None,
        config: run.global.config.clone(),
        repository: run.global.repository.clone(),
        ..Global::default()
    };
    let target = config::one(&global, &run.config()?, args.target.as_deref(), &run.current)?;
    let Some(name) = run.global.name.as_deref() else {
        return Err(Error::usage(
            "what to call the moment is missing",
            "Say --name TEXT, such as --name 'before the upgrade'.",
        ));
    };
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(Error::usage(
            format!(
                "a restore point has a name of 1 to {MAX_NAME} bytes, not {}",
                name.len()
            ),
            "Choose a shorter one.",
        ));
    }
    let point = point::make(target.server()?, name).await.map_err(engine::Error::from)?;
    let text = format!(
        "{} is now called {name:?}: {} at {}\nGo back to it, once its WAL is in the repository:\n  lastgood restore {} --to DIR --at 'name:{name}'\n",
        target.name,
        render::moment(point.time),
        point.end,
        target.name,
    );
    let document = serde_json::json!({
        "name": name,
        "lsn": point.end.to_string(),
        "time": point.time,
    });
    Ok(Outcome::new(document, text))
}
