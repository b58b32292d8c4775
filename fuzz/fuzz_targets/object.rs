//! See `stillframe_store::decoders::object`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| stillframe_store::decoders::object(bytes));
