//! A running `lastgood wal receive`. It ends with the test at the latest.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Output},
};

use serde_json::Value;

pub(crate) struct Receiver {
    child: Option<Child>,
    log: PathBuf,
}

impl Receiver {
    /// Starts `command`, which writes what goes wrong into the file `log`.
    pub(crate) fn start(mut command: Command, log: PathBuf) -> Receiver {
        let file = fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        Receiver {
            child: Some(command.stderr(file).spawn().unwrap()),
            log,
        }
    }

    /// What it and those before it have said.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Fails if it has ended: nobody would start it again.
    pub(crate) fn is_running(&mut self) {
        let ended = self.child.as_mut().unwrap().try_wait().unwrap();
        assert!(ended.is_none(), "it has ended: {ended:?}\n{}", self.said());
    }

    /// The most memory that it ever had resident, without the pages of the program's own file: those of a build with
    /// debug information say nothing.
    pub(crate) fn memory_kib(&self) -> u64 {
        let id = self.child.as_ref().unwrap().id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let kib = |key: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(key)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        kib("VmHWM:").saturating_sub(kib("RssFile:"))
    }

    /// Kills it. Fails if it had ended by itself.
    pub(crate) fn kill(mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(status.code().is_none(), "{status}\n{}", self.said());
    }

    /// Asks it to stop; what it says then.
    pub(crate) fn stop(mut self) -> Value {
        self.is_running();
        let child = self.child.take().unwrap();
        let asked = Command::new("kill").arg(child.id().to_string()).status().unwrap();
        assert!(asked.success());
        let Output { status, stdout, .. } = child.wait_with_output().unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.said());
        serde_json::from_slice(&stdout).unwrap()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
