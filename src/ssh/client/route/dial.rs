//! TCP: name look-up and dialling.

/// Which addresses of a name are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressFamily {
    /// All.
    #[default]
    Any,
    /// IPv4 only.
    Inet,
    /// IPv6 only.
    Inet6,
}

/// How TCP connections are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dial {
    /// Which addresses of the name are used.
    pub family: AddressFamily,
    /// Address of this machine, or a name of it, that the connection comes from.
    pub bind: Option<String>,
    /// The kernel probes an idle connection (`SO_KEEPALIVE`). SSH's own probes do not depend on it.
    pub tcp_keepalive: bool,
}
