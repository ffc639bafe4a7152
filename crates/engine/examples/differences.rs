//! What it costs to store changed pages whole or as differences: `differences BEFORE AFTER`, two copies of a data
//! directory.
//!
//! All relation pages that are in both and differ, 32 of one file to a frame, or as many as said. Each way is checked
//! by undoing it, and timed on one core, the best of some passes: other programs only ever make it slower.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]
#![allow(clippy::disallowed_methods, reason = "time is what it measures")]

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use pgformat::page::fold::Folder;
use zstd::zstd_safe::{CCtx, CParameter, DCtx};

const PAGE: usize = 8192;
const FRAME: usize = 32;
const LARGE_FRAME: usize = 512;
const PASSES: u32 = 3;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// A page and what it was before.
type Pair = (Vec<u8>, Vec<u8>);

fn main() -> Outcome<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(before), Some(after)) = (arguments.next(), arguments.next()) else {
        return Err("two directories are wanted".into());
    };
    let files = changed(&before, &after)?;
    let pages: Vec<&Pair> = files.values().flatten().collect();
    println!("{} changed pages in {} files", pages.len(), files.len());
    let frames = frames(&files, FRAME, |_| true);
    report("whole, folded, zstd 2", &frames, |frame| whole(frame, 2))?;
    for level in [-1, 1, 2, 3] {
        report(&format!("XOR, zstd {level}"), &frames, |frame| xor(frame, level))?;
    }
    report("XOR of folded pages, zstd 2", &frames, |frame| folded_xor(frame, 2))?;
    for level in [-1, 1, 2, 3, 5] {
        report(&format!("frame as prefix, zstd {level}"), &frames, |frame| {
            all(frame, level)
        })?;
    }
    for level in [-1, 1, 2, 3, 4, 5, 6] {
        report(&format!("page as prefix, zstd {level}"), &frames, |frame| {
            each(frame, level, None)
        })?;
    }
    report("the same 5, and zstd 2", &frames, |frame| each(frame, 5, Some(2)))?;
    let large = self::frames(&files, LARGE_FRAME, |_| true);
    report("the same, 512 to a frame", &large, |frame| each(frame, 5, Some(2)))?;
    println!("\nby bytes with the page as prefix (zstd 5): pages, KiB so, KiB whole");
    let steps = [32, 64, 128, 256, 512, 1024, 1536, 2048, 3072, 4096, 2 * PAGE];
    for (from, to) in std::iter::once(0).chain(steps).zip(steps) {
        let some = self::frames(&files, FRAME, |pair| (from + 1..=to).contains(&prefixed(pair)));
        let mut sum = [0; 2];
        for frame in &some {
            sum[0] += each(frame, 5, Some(2))?.0;
            sum[1] += whole(frame, 2)?.0;
        }
        let count: usize = some.iter().map(|frame| frame.pages.len() / PAGE).sum();
        println!(
            "{from:>5} to {to:<5} {count:>7} {:>8} {:>8}",
            sum[0] >> 10,
            sum[1] >> 10
        );
    }
    Ok(())
}

/// Pages of one file in order, and what they were.
struct Frame {
    pages: Vec<u8>,
    bases: Vec<u8>,
}

fn frames(files: &BTreeMap<PathBuf, Vec<Pair>>, most: usize, want: impl Fn(&Pair) -> bool) -> Vec<Frame> {
    let mut frames = Vec::new();
    for pairs in files.values() {
        let wanted: Vec<&Pair> = pairs.iter().filter(|pair| want(pair)).collect();
        frames.extend(wanted.chunks(most).map(|some| Frame {
            pages: some.iter().flat_map(|pair| pair.0.iter().copied()).collect(),
            bases: some.iter().flat_map(|pair| pair.1.iter().copied()).collect(),
        }));
    }
    frames
}

fn changed(before: &Path, after: &Path) -> Outcome<BTreeMap<PathBuf, Vec<Pair>>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![PathBuf::from("base"), PathBuf::from("global")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(after.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(path);
                continue;
            }
            let relation = pgformat::relation::classify(path.as_os_str().as_encoded_bytes()).is_some();
            let Ok(old) = std::fs::read(before.join(&path)) else {
                continue;
            };
            if !relation {
                continue;
            }
            let new = std::fs::read(after.join(&path))?;
            let pairs = new.chunks_exact(PAGE).zip(old.chunks_exact(PAGE));
            let pairs: Vec<Pair> = pairs
                .filter(|(new, old)| new != old)
                .map(|(new, old)| (new.to_vec(), old.to_vec()))
                .collect();
            if !pairs.is_empty() {
                files.insert(path, pairs);
            }
        }
    }
    Ok(files)
}

/// Bytes of a page with its base as prefix.
fn prefixed((page, base): &Pair) -> usize {
    let mut packed = vec![0; 2 * PAGE];
    CCtx::create()
        .compress_using_dict(&mut packed[..], page, base, 5)
        .unwrap_or(2 * PAGE)
}

/// Bytes, seconds to make it, seconds to undo it.
type Cost = (usize, f64, f64);

fn report(what: &str, frames: &[Frame], way: impl Fn(&Frame) -> Outcome<Cost>) -> Outcome<()> {
    let (mut best, raw) = (
        (0, f64::INFINITY, f64::INFINITY),
        frames.iter().map(|frame| frame.pages.len()),
    );
    let mb = raw.sum::<usize>() as f64 / 1e6;
    for _ in 0..PASSES {
        let mut sum = (0, 0.0, 0.0);
        for frame in frames {
            let one = way(frame)?;
            sum = (sum.0 + one.0, sum.1 + one.1, sum.2 + one.2);
        }
        best = (sum.0, best.1.min(sum.1), best.2.min(sum.2));
    }
    println!(
        "{what:<28} {:>9} KiB, {:>6.0} MB/s to make, {:>6.0} MB/s to undo",
        best.0 >> 10,
        mb / best.1,
        mb / best.2
    );
    Ok(())
}

type Contexts = RefCell<(CCtx<'static>, DCtx<'static>)>;

// One for each, as in a backup: a context that is used for large and small in turn is made anew again and again.
thread_local! {
    static FRAMES: Contexts = RefCell::new((CCtx::create(), DCtx::create()));
    static PAGES: Contexts = RefCell::new((CCtx::create(), DCtx::create()));
}

fn compress(raw: &[u8], level: i32) -> Outcome<Vec<u8>> {
    let mut packed = Vec::with_capacity(zstd::zstd_safe::compress_bound(raw.len()));
    FRAMES
        .with_borrow_mut(|(context, _)| context.compress(&mut packed, raw, level))
        .map_err(zstd_error)?;
    Ok(packed)
}

fn decompress(packed: &[u8], raw: usize) -> Outcome<Vec<u8>> {
    let mut again = Vec::with_capacity(raw);
    FRAMES
        .with_borrow_mut(|(_, context)| context.decompress(&mut again, packed))
        .map_err(zstd_error)?;
    Ok(again)
}

/// Makes `raw`, compresses it; decompresses it and undoes it.
fn timed(frame: &Frame, level: i32, make: impl Fn(&mut [u8]), undo: impl Fn(&mut [u8])) -> Outcome<Cost> {
    let begun = Instant::now();
    let mut raw = frame.pages.clone();
    make(&mut raw);
    let packed = compress(&raw, level)?;
    let made = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let mut again = decompress(&packed, raw.len())?;
    undo(&mut again);
    let undone = begun.elapsed().as_secs_f64();
    (again == frame.pages)
        .then_some((packed.len(), made, undone))
        .ok_or_else(|| "it was not undone".into())
}

fn whole(frame: &Frame, level: i32) -> Outcome<Cost> {
    let fold = |raw: &mut [u8]| {
        let mut folder = Folder::default();
        raw.chunks_mut(PAGE).for_each(|page| folder.fold(page));
    };
    let unfold = |raw: &mut [u8]| {
        let mut folder = Folder::default();
        raw.chunks_mut(PAGE).for_each(|page| folder.unfold(page));
    };
    timed(frame, level, fold, unfold)
}

fn exclusive_or(raw: &mut [u8], other: &[u8]) {
    raw.iter_mut().zip(other).for_each(|(a, b)| *a ^= b);
}

fn xor(frame: &Frame, level: i32) -> Outcome<Cost> {
    let change = |raw: &mut [u8]| exclusive_or(raw, &frame.bases);
    timed(frame, level, change, change)
}

fn folded_xor(frame: &Frame, level: i32) -> Outcome<Cost> {
    let folded = || {
        let mut bases = frame.bases.clone();
        bases.chunks_mut(PAGE).for_each(|page| Folder::default().fold(page));
        bases
    };
    let make = |raw: &mut [u8]| {
        raw.chunks_mut(PAGE).for_each(|page| Folder::default().fold(page));
        exclusive_or(raw, &folded());
    };
    let undo = |raw: &mut [u8]| {
        exclusive_or(raw, &folded());
        raw.chunks_mut(PAGE).for_each(|page| Folder::default().unfold(page));
    };
    timed(frame, level, make, undo)
}

fn zstd_error(code: usize) -> String {
    zstd::zstd_safe::get_error_name(code).into()
}

/// The frame with the frame of bases as prefix. A context may not outlive its prefix, so each frame needs a new one.
fn all(frame: &Frame, level: i32) -> Outcome<Cost> {
    let begun = Instant::now();
    let mut context = CCtx::create();
    context
        .set_parameter(CParameter::CompressionLevel(level))
        .map_err(zstd_error)?;
    let mut packed = Vec::with_capacity(zstd::zstd_safe::compress_bound(frame.pages.len()));
    context.ref_prefix(&frame.bases).map_err(zstd_error)?;
    context.compress2(&mut packed, &frame.pages).map_err(zstd_error)?;
    let made = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let mut context = DCtx::create();
    let mut again = Vec::with_capacity(frame.pages.len());
    context.ref_prefix(&frame.bases).map_err(zstd_error)?;
    context.decompress(&mut again, &packed).map_err(zstd_error)?;
    let undone = begun.elapsed().as_secs_f64();
    (again == frame.pages)
        .then_some((packed.len(), made, undone))
        .ok_or_else(|| "it was not undone".into())
}

/// Each page with its base as prefix, and perhaps the frame of what came of it once more.
fn each(frame: &Frame, level: i32, once_more: Option<i32>) -> Outcome<Cost> {
    let begun = Instant::now();
    let (mut slots, mut lengths, mut one) = (Vec::new(), Vec::new(), vec![0; 2 * PAGE]);
    for (page, base) in frame.pages.chunks(PAGE).zip(frame.bases.chunks(PAGE)) {
        let length = PAGES
            .with_borrow_mut(|(context, _)| context.compress_using_dict(&mut one[..], page, base, level))
            .map_err(zstd_error)?;
        slots.extend_from_slice(&one[..length]);
        lengths.push(length);
    }
    let packed = match once_more {
        Some(level) => compress(&slots, level)?,
        None => slots.clone(),
    };
    let made = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let mut rest = &match once_more {
        Some(_) => decompress(&packed, slots.len())?,
        None => slots,
    }[..];
    let mut again = vec![0; frame.pages.len()];
    for ((page, base), length) in again.chunks_mut(PAGE).zip(frame.bases.chunks(PAGE)).zip(lengths) {
        PAGES
            .with_borrow_mut(|(_, context)| context.decompress_using_dict(page, &rest[..length], base))
            .map_err(zstd_error)?;
        rest = &rest[length..];
    }
    let undone = begun.elapsed().as_secs_f64();
    (again == frame.pages)
        .then_some((packed.len(), made, undone))
        .ok_or_else(|| "it was not undone".into())
}
