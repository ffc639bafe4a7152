//! Backups and restores of real servers: under load, in storms, interrupted, refused, and out of room.

mod act;
mod delta;
mod delta_mounts;
mod delta_refusals;
mod full_disk;
mod interruptions;
mod layout;
mod load;
mod over_sql;
mod over_sql_files;
mod page_errors;
mod piles;
mod refusals;
mod restore_refusals;
mod sizes;
mod storms;
mod tablespaces;
mod timelines;
mod verifications;
