//! A checkpoint as a standard ELF core.
