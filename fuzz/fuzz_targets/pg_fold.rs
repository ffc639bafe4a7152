#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    (testkit::fuzz::target("pg_fold").expect("it is listed").run)(bytes);
});
