//! See `stillframe_store::decoders::page_table`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| stillframe_store::decoders::page_table(bytes));
