//! What ends a session, or keeps one from beginning.

use std::io;

/// An error of the server. Messages are one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The recording cannot be read.
    #[error(transparent)]
    Store(#[from] stillframe_store::Error),
    /// What lies before or after it cannot be.
    #[error(transparent)]
    Timeline(#[from] stillframe_timeline::Error),
    /// The connection failed.
    #[error("the connection to the debugger failed: {0}")]
    Connection(#[from] io::Error),
    /// An address that cannot be understood.
    #[error("`{0}` is no address; write 127.0.0.1:PORT, [::1]:PORT or unix:PATH")]
    Address(String),
    /// An address that others can reach.
    #[error(
        "{0} can be reached from other machines, and whoever connects reads all memory of the \
         recording; use 127.0.0.1, or add --allow-remote"
    )]
    Remote(std::net::SocketAddr),
    /// It cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// No thread to debug.
    #[error("process {process} has no threads at checkpoint {checkpoint}; choose another moment")]
    NoThreads {
        /// Its number.
        process: u32,
        /// When.
        checkpoint: u64,
    },
}
