//! WAL received from real servers: under load, stopped and killed, over gaps, promotions and impostors.

mod damage;
mod gaps;
mod load;
mod moments;
mod refusals;
mod timelines;
