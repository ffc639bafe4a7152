#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    (testkit::fuzz::target("pg_record_events").expect("it is listed").run)(bytes);
});
