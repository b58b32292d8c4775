//! Where debuggers connect.

use super::Error;
use std::fmt;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl std::str::FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Address(text.chars().take(200).collect());
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err(wrong())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let text = text
            .strip_prefix("localhost:")
            .map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
        text.parse().map(Self::Tcp).map_err(|_| wrong())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// A place where debuggers connect, one after the other. A socket's file goes with it.
pub struct Listener {
    socket: Socket,
}

impl Listener {
    /// Listens.
    ///
    /// # Errors
    /// [`Error::Remote`] unless `remote`, if other machines can reach the address; what the system
    /// says.
    pub fn bind(address: &Address, remote: bool) -> Result<Self, Error> {
        let failed = |source| Error::Listen {
            address: address.to_string(),
            source,
        };
        let socket = match address {
            Address::Tcp(at) if !at.ip().is_loopback() && !remote => {
                return Err(Error::Remote(*at));
            }
            Address::Tcp(at) => Socket::Tcp(TcpListener::bind(at).map_err(failed)?),
            Address::Unix(path) => Socket::Unix(private(path).map_err(failed)?, path.clone()),
        };
        Ok(Self { socket })
    }

    /// Where it listens, with the port that the system chose if none was.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn address(&self) -> Result<Address, Error> {
        Ok(match &self.socket {
            Socket::Tcp(listener) => Address::Tcp(listener.local_addr()?),
            Socket::Unix(_, path) => Address::Unix(path.clone()),
        })
    }

    /// Waits for the next debugger.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn accept(&self) -> Result<Connection, Error> {
        Ok(match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                // Packets are small, and each waits for the one before.
                stream.set_nodelay(true)?;
                Connection::Tcp(stream)
            }
            Socket::Unix(listener, _) => Connection::Unix(listener.accept()?.0),
        })
    }
}

/// A socket that only its owner can connect to: it is made under another name in a directory of
/// ours, and appears when its permissions are set.
fn private(path: &Path) -> std::io::Result<UnixListener> {
    if path.exists() {
        return Err(std::io::ErrorKind::AlreadyExists.into());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let dir = parent.join(format!(".still-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let made = (|| {
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))?;
        let first = dir.join("s");
        let listener = UnixListener::bind(&first)?;
        std::fs::set_permissions(&first, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&first, path)?;
        Ok(listener)
    })();
    let _ = std::fs::remove_dir_all(&dir);
    made
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Socket::Unix(_, path) = &self.socket {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A debugger that has connected.
#[derive(Debug)]
pub enum Connection {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a socket in the file system.
    Unix(UnixStream),
    /// Over our standard input and output.
    Standard,
}

/// Both directions of a connection.
type Halves = (Box<dyn Read + Send>, Box<dyn Write + Send>);

impl Connection {
    /// The two directions.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub(super) fn halves(&self) -> Result<Halves, Error> {
        Ok(match self {
            Self::Tcp(s) => (Box::new(s.try_clone()?), Box::new(s.try_clone()?)),
            Self::Unix(s) => (Box::new(s.try_clone()?), Box::new(s.try_clone()?)),
            Self::Standard => (Box::new(std::io::stdin()), Box::new(std::io::stdout())),
        })
    }

    /// Ends it, so that whoever reads it wakes up.
    pub(super) fn close(&self) {
        let _ = match self {
            Self::Tcp(s) => s.shutdown(Shutdown::Both),
            Self::Unix(s) => s.shutdown(Shutdown::Both),
            Self::Standard => Ok(()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("127.0.0.1:0", Some("127.0.0.1:0")),
            ("[::1]:7", Some("[::1]:7")),
            ("localhost:9", Some("127.0.0.1:9")),
            ("unix:/tmp/a b", Some("unix:/tmp/a b")),
            ("unix:", None),
            ("7777", None),
            ("example.org:1", None),
            ("", None),
        ] {
            let address = text.parse::<Address>().ok().map(|a| a.to_string());
            assert_eq!(address.as_deref(), shown, "{text}");
        }
    }

    #[test]
    fn only_loopback_unless_told() {
        let open = "0.0.0.0:0".parse().unwrap();
        assert!(matches!(
            Listener::bind(&open, false),
            Err(Error::Remote(_))
        ));
        assert!(Listener::bind(&open, true).is_ok());
        assert!(
            Listener::bind(&"[::1]:0".parse().unwrap(), false).is_ok_and(|l| l.address().is_ok())
                || cfg!(not(target_os = "linux"))
                || !ipv6()
        );
    }

    fn ipv6() -> bool {
        TcpListener::bind("[::1]:0").is_ok()
    }

    #[test]
    fn sockets_are_private_and_go_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let address = Address::Unix(path.clone());
        let listener = Listener::bind(&address, false).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(Listener::bind(&address, false).is_err());
        assert!(UnixStream::connect(&path).is_ok());
        drop(listener);
        assert!(!path.exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
