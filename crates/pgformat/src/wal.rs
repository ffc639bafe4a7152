//! The write-ahead log: pages, records, a walk over both, and what records mean.
//!
//! Formats: `access/xlog_internal.h` and `access/xlogrecord.h`; what is accepted follows
//! `access/transam/xlogreader.c`.

pub mod block;
pub mod event;
pub mod list;
pub mod page;
pub mod parts;
pub mod record;
pub mod rows;
pub mod server;
pub mod storage;
pub mod transaction;
pub mod walk;

mod timestamp;

pub use block::{Block, RelationLocator};
pub use event::Event;
pub use list::List;
pub use page::{Geometry, WalPageHeader};
pub use parts::{Blocks, Parts};
pub use record::{Record, XlogRecord};
pub use rows::{RowChange, Rows, Truncate};
pub use server::ServerEvent;
pub use storage::{DatabaseChange, StorageChange};
pub use transaction::{Assignment, Transaction, TransactionKind};
pub use walk::{Cause, Stop, Tail, Walker};
