//! System calls made inside the target.
