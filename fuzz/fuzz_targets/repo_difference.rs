#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    (testkit::fuzz::target("repo_difference").expect("it is listed").run)(bytes);
});
