//! Several connections that read files, for callers that wait for answers as they would wait for a disk.
//!
//! Invariant: all connections are to one and the same running server. Each lives on a thread of its own with a
//! runtime of its own, so that whoever waits for it blocks nothing that it needs.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc::{UnboundedSender, unbounded_channel},
};

use super::{FileSession, Instance, Listed, Opened, Stat};
use crate::{Error, Result, conninfo::Conninfo};

/// What a connection is asked to do.
type Question = Box<dyn FnOnce(&Runtime, &FileSession) + Send>;
/// An answer on its way.
type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Files of a server, read over several connections. Whoever is free takes the next question. Its functions block.
pub struct FileReader {
    questions: Sender<Question>,
    server: String,
    instance: Instance,
    mode: u32,
}

impl std::fmt::Debug for FileReader {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "FileReader({})", self.server)
    }
}

impl FileReader {
    /// Opens `connections` (at least one) to the one host that `conninfo` names. They are closed when this is dropped.
    ///
    /// # Errors
    /// What [`FileSession::connect`] returns; [`Error::Protocol`] if the connections reach different servers.
    pub async fn connect(conninfo: &Conninfo, connections: usize) -> Result<FileReader> {
        let connections = connections.max(1);
        let (questions, asked) = channel::<Question>();
        let asked = std::sync::Arc::new(Mutex::new(asked));
        let (ready, mut opened) = unbounded_channel();
        for _ in 0..connections {
            let (conninfo, asked, ready) = (conninfo.clone(), std::sync::Arc::clone(&asked), ready.clone());
            thread::Builder::new()
                .name("sql-reader".to_owned())
                .spawn(move || serve(&conninfo, &asked, ready))
                .map_err(no_thread)?;
        }
        drop(ready);
        let mut seen: Option<(Instance, u32, String)> = None;
        for _ in 0..connections {
            let (instance, mode, server) = opened.recv().await.unwrap_or_else(|| Err(gone()))?;
            match &seen {
                Some((first, ..)) if *first != instance => {
                    let what = "two connections that reach different servers".to_owned();
                    return Err(Error::Protocol { server, what });
                }
                _ => seen = Some((instance, mode, server)),
            }
        }
        let (instance, mode, server) = seen.ok_or_else(gone)?;
        Ok(FileReader {
            questions,
            server,
            instance,
            mode,
        })
    }

    /// Which server answers.
    pub fn instance(&self) -> Instance {
        self.instance
    }

    /// See [`FileSession::directory_mode`].
    pub fn directory_mode(&self) -> u32 {
        self.mode
    }

    /// Puts each name in a directory into `names` by `take`, in no order. See [`FileSession::list`].
    pub fn list<T: Send + 'static>(&self, path: &[u8], mut names: T, take: fn(&mut T, Listed<'_>)) -> Result<T> {
        let path = path.to_vec();
        self.ask(move |session| {
            Box::pin(async move {
                session.list(&path, |listed| take(&mut names, listed)).await?;
                Ok(names)
            })
        })
    }

    /// See [`FileSession::stat`].
    pub fn stat(&self, path: &[u8]) -> Result<Option<Stat>> {
        let path = path.to_vec();
        self.ask(move |session| Box::pin(async move { session.stat(&path).await }))
    }

    /// See [`FileSession::open`].
    pub fn open(&self, path: &[u8], most: u32) -> Result<Option<Opened>> {
        let path = path.to_vec();
        self.ask(move |session| Box::pin(async move { session.open(&path, most).await }))
    }

    /// See [`FileSession::read`].
    pub fn read(&self, path: &[u8], offset: u64, bytes: u32) -> Result<Option<Vec<u8>>> {
        let path = path.to_vec();
        self.ask(move |session| Box::pin(async move { session.read(&path, offset, bytes).await }))
    }

    /// See [`FileSession::tablespace`].
    pub fn tablespace(&self, oid: u32) -> Result<Option<Vec<u8>>> {
        self.ask(move |session| Box::pin(session.tablespace(oid)))
    }

    fn ask<T: Send + 'static>(
        &self,
        question: impl for<'a> FnOnce(&'a FileSession) -> Answering<'a, T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = channel();
        let question: Question = Box::new(move |runtime, session| {
            // Whoever asked may have gone.
            let _ = answer.send(runtime.block_on(question(session)));
        });
        // A thread that died drops its end of the answer: nobody waits for it for ever.
        self.questions.send(question).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }
}

type Ready = Result<(Instance, u32, String)>;

/// The life of one connection.
fn serve(conninfo: &Conninfo, asked: &Mutex<Receiver<Question>>, ready: UnboundedSender<Ready>) {
    let opened = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(no_thread)
        .and_then(|runtime| {
            let session = runtime.block_on(FileSession::connect(conninfo))?;
            Ok((runtime, session))
        });
    let (runtime, session) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let _ = ready.send(Ok((
        session.instance(),
        session.directory_mode(),
        session.server().to_owned(),
    )));
    drop(ready);
    loop {
        // Held while waiting: the others wait for the lock instead, which comes to the same.
        let next = match asked.lock() {
            Ok(asked) => asked.recv(),
            Err(_) => break,
        };
        match next {
            Ok(question) => question(&runtime, &session),
            Err(_) => break,
        }
    }
    runtime.block_on(session.close());
}

fn no_thread(source: std::io::Error) -> Error {
    Error::Local {
        doing: "start",
        path: "a reader's thread".into(),
        source,
    }
}

fn gone() -> Error {
    Error::ConnectionLost {
        server: "the server".to_owned(),
        doing: "read files".to_owned(),
        source: "the reader's thread has ended".into(),
    }
}
