//! Incremental backups of real servers: nothing that changed is missed, whatever changed it, and each backup restores alone.

mod again;
mod audits;
mod by_index;
mod chains;
mod damaged_parents;
mod ddl;
mod fallbacks;
mod forks;
mod histories;
mod hundred;
mod large;
mod load;
mod moving;
mod over_sql;
mod remembered;
mod rounds;
mod summaries;
mod unlogged;
mod wal_damage;
mod workload;
