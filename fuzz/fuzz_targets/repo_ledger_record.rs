#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    (testkit::fuzz::target("repo_ledger_record").expect("it is listed").run)(bytes);
});
