//! See `stillframe_store::decoders::delta`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| stillframe_store::decoders::delta(bytes));
