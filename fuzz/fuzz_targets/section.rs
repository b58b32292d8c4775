//! See `stillframe_store::decoders::section`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| stillframe_store::decoders::section(bytes));
