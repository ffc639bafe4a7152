//! Which seeds a simulation runs.

/// The seeds to run: `LASTGOOD_SEED` replays one, `LASTGOOD_SEEDS` says how many for a soak, else the
/// first `default` numbers.
pub fn seeds(default: u64) -> impl Iterator<Item = u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("LASTGOOD_SEED") {
        Some(seed) => seed..seed.saturating_add(1),
        None => 0..number("LASTGOOD_SEEDS").unwrap_or(default),
    }
}
