//! Socket addresses in words.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

/// A raw `struct sockaddr`: `127.0.0.1:80`, `[::1]:80`, a path, `@abstract`; other families by
/// number.
pub fn show(address: &[u8]) -> String {
    let Some((family, rest)) = address.split_at_checked(2) else {
        return String::new();
    };
    let family = u16::from_ne_bytes([family[0], family[1]]);
    let port = || Some(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
    let inet = || -> Option<String> {
        let bytes: [u8; 4] = rest.get(2..6)?.try_into().ok()?;
        Some(SocketAddrV4::new(Ipv4Addr::from(bytes), port()?).to_string())
    };
    let inet6 = || -> Option<String> {
        let bytes: [u8; 16] = rest.get(6..22)?.try_into().ok()?;
        Some(SocketAddrV6::new(Ipv6Addr::from(bytes), port()?, 0, 0).to_string())
    };
    let known = match family {
        1 => Some(match rest.split_first() {
            None => String::new(),
            Some((0, name)) => format!("@{}", String::from_utf8_lossy(name)),
            Some(_) => {
                let path = rest.split(|b| *b == 0).next().unwrap_or_default();
                String::from_utf8_lossy(path).into_owned()
            }
        }),
        2 => inet(),
        10 => inet6(),
        _ => None,
    };
    known.unwrap_or_else(|| format!("address of family {family}"))
}

/// Whether a socket with this raw `struct sockaddr` was given an address. One of the internet that was
/// not says port 0; to bind it to that would give it a port of the kernel's choice.
pub fn is_bound(address: &[u8]) -> bool {
    match address.split_at_checked(2) {
        None => false,
        Some((family, rest)) => {
            let family = u16::from_ne_bytes([family[0], family[1]]);
            let internet = matches!(family, 2 | 10);
            let port = rest.iter().take(2).any(|b| *b != 0);
            !rest.is_empty() && (port || !internet)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let family = |n: u16| n.to_ne_bytes().to_vec();
        let all = |n: u16, rest: &[u8]| show(&[&family(n)[..], rest].concat());
        assert_eq!(all(2, &[0, 80, 127, 0, 0, 1, 0, 0]), "127.0.0.1:80");
        let mut six = vec![0, 80, 0, 0, 0, 0];
        six.extend([0; 15]);
        six.push(1);
        assert_eq!(all(10, &six), "[::1]:80");
        assert_eq!(all(1, b"/run/x\0\0"), "/run/x");
        assert_eq!(all(1, b"\0name"), "@name");
        assert_eq!(all(2, &[1]), "address of family 2");
        assert_eq!(show(&[1]), "");
    }

    #[test]
    fn an_address_without_a_port_is_none() {
        let of = |n: u16, rest: &[u8]| is_bound(&[&n.to_ne_bytes()[..], rest].concat());
        assert!(of(2, &[0, 80, 0, 0, 0, 0]) && of(10, &[80, 0]) && of(1, b"/x") && of(1, b"\0x"));
        assert!(!of(2, &[0, 0, 127, 0, 0, 1]) && !of(10, &[0; 26]) && !of(1, b""));
        assert!(!is_bound(&[]) && !is_bound(&[2]));
    }
}
