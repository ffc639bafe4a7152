#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    (testkit::fuzz::target("pg_wal").expect("it is listed").run)(bytes);
});
