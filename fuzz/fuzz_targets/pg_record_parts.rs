#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    (testkit::fuzz::target("pg_record_parts").expect("it is listed").run)(bytes);
});
