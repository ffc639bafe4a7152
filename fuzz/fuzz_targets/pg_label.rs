#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    (testkit::fuzz::target("pg_label").expect("it is listed").run)(bytes);
});
