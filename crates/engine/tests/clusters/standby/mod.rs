//! Backups taken from standbys: of a standby alone, and of a primary whose files are read on a standby.

mod alone;
mod alternating;
mod beside;
mod idle;
mod lagging;
mod over_sql;
mod pair;
mod promotions;
mod refusals;
