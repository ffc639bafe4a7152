#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    (testkit::fuzz::target("repo_table_frame").expect("it is listed").run)(bytes);
});
