//! The write-ahead log: pages, records, and a walk over both.
//!
//! Formats: `access/xlog_internal.h` and `access/xlogrecord.h`; what is accepted follows
//! `access/transam/xlogreader.c`.

pub mod page;
pub mod record;
pub mod walk;

pub use page::{Geometry, WalPageHeader};
pub use record::{Record, XlogRecord};
pub use walk::{Cause, Stop, Tail, Walker};
