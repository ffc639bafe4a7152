//! Mutation without coverage: what stable Rust can do in a few seconds. `cargo fuzz` goes further.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use crate::sim::Random;

use super::Target;

/// The longest input made.
const LONGEST: usize = 64 << 10;
/// Memory that a decoder may take for each byte of input. A reference of two bytes becomes one of some dozens.
const PER_BYTE: usize = 64;
/// Numbers at which lengths, counts and flags change their meaning.
const TELLING: [u64; 16] = [
    0,
    1,
    2,
    7,
    0x7f,
    0x80,
    0xff,
    0x1000,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 40,
    u64::MAX >> 1,
    u64::MAX,
];

/// An input that a decoder did not stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The target.
    pub target: &'static str,
    /// From which it comes again.
    pub seed: u64,
    /// How many inputs it took.
    pub inputs: u64,
    /// The input.
    pub input: Vec<u8>,
    /// What happened.
    pub what: String,
}

impl std::fmt::Display for Found {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hex: String = self.input.iter().map(|byte| format!("{byte:02x}")).collect();
        let Found {
            target,
            seed,
            inputs,
            what,
            ..
        } = self;
        write!(out, "{target}: {what}\nseed {seed}, input {inputs}: {hex}")
    }
}

/// Mutates and runs.
#[derive(Debug, Clone, Copy)]
pub struct Hammer {
    /// What all mutations come from.
    pub seed: u64,
    /// How long for each target.
    pub time: Duration,
    /// The most bytes of memory in use at once since the last call, and from now on measured anew.
    pub peak: fn() -> usize,
}

impl Hammer {
    /// Runs `target` on its seeds and then on mutations of them; the number of inputs it stood.
    pub fn run(&self, target: &'static Target) -> Result<u64, Found> {
        let began = Instant::now();
        let seeds = (target.seeds)();
        let mut random = Random::new(self.seed);
        let mut inputs = 0;
        for seed in &seeds {
            self.one(target, seed, inputs)?;
            inputs += 1;
        }
        while began.elapsed() < self.time {
            for _ in 0..16 {
                let input = mutated(&mut random, &seeds);
                self.one(target, &input, inputs)?;
                inputs += 1;
            }
        }
        Ok(inputs)
    }

    fn one(&self, target: &'static Target, input: &[u8], inputs: u64) -> Result<(), Found> {
        let found = |what| Found {
            target: target.name,
            seed: self.seed,
            inputs,
            input: input.to_vec(),
            what,
        };
        (self.peak)();
        let ran = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
        let taken = (self.peak)();
        if let Err(panic) = ran.map(drop) {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("it panicked");
            return Err(found(format!("panic: {text}")));
        }
        let allowed = target.slack + PER_BYTE * input.len();
        match taken <= allowed {
            true => Ok(()),
            false => Err(found(format!(
                "{taken} bytes of memory for {} of input; {allowed} are allowed",
                input.len()
            ))),
        }
    }
}

fn mutated(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = pick(random, seeds).clone();
    for _ in 0..=random.below(5) {
        mutate(random, &mut input, seeds);
    }
    input.truncate(LONGEST);
    input
}

fn mutate(random: &mut Random, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = random.below(input.len() as u64 + 1) as usize;
    let end = at + random.below((input.len() - at) as u64 + 1).min(64) as usize;
    match random.below(10) {
        0 => input.truncate(at),
        1 => drop(input.drain(at..end)),
        2 => {
            let again = input[at..end].to_vec();
            input.splice(at..at, again);
        }
        3 => {
            let mut noise = vec![0; random.below(16) as usize];
            random.fill(&mut noise);
            input.splice(at..at, noise);
        }
        4 => {
            let other = pick(random, seeds);
            let from = random.below(other.len() as u64 + 1) as usize;
            let until = from + random.below((other.len() - from) as u64 + 1) as usize;
            input.splice(at..end, other[from..until].iter().copied());
        }
        5 => {
            let number = pick(random, &TELLING).to_le_bytes();
            let width = 1 << random.below(4);
            for (byte, new) in input.iter_mut().skip(at).zip(&number[..width]) {
                *byte = *new;
            }
        }
        6 => {
            let mut varint = Vec::new();
            repo::bytes_codec::put_varint(&mut varint, *pick(random, &TELLING));
            let until = (at + 1).min(input.len());
            input.splice(at.min(until)..until, varint);
        }
        7 => {
            let digits = pick(random, &TELLING).to_string();
            input.splice(at..end, digits.into_bytes());
        }
        _ => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
}

fn pick<'a, T>(random: &mut Random, among: &'a [T]) -> &'a T {
    &among[random.below(among.len() as u64) as usize]
}
