//! Two network namespaces of this machine and the one link between them, for a network that fails.
//!
//! Needs root and `ip` (iproute2). The addresses exist in these namespaces only, so tests may run at
//! the same time and can all use the same ones.

use std::{net::Ipv4Addr, process::Command};

use uuid::Uuid;

use super::openssh::is_root;

/// The address at the far end.
pub(crate) const FAR: Ipv4Addr = Ipv4Addr::new(10, 200, 77, 2);

/// The link at either end.
const DEVICE: &str = "sshmcp0";

/// Two namespaces with a link. Deleted when dropped: keep it longer than what runs in them.
pub(crate) struct Link {
    near: String,
    far: String,
}

impl Link {
    /// Makes both namespaces and the link; nothing where that cannot be done.
    #[expect(clippy::print_stderr, reason = "a test that proves nothing must say so")]
    pub(crate) fn new() -> Option<Self> {
        if !is_root() {
            return None;
        }
        let id = Uuid::new_v4().simple().to_string();
        let link = Self { near: format!("sshmcp-{}-near", &id[..12]), far: format!("sshmcp-{}-far", &id[..12]) };
        if let Err(why) = ip(&["netns", "add", &link.near]) {
            eprintln!("skipped, this needs network namespaces: {why}");
            return None;
        }
        // Where there are namespaces the rest has to work.
        link.set_up().expect("a link");
        Some(link)
    }

    fn set_up(&self) -> Result<(), String> {
        let (near, far) = (self.near.as_str(), self.far.as_str());
        ip(&["netns", "add", far])?;
        ip(&["-n", near, "link", "add", DEVICE, "type", "veth", "peer", "name", DEVICE, "netns", far])?;
        for (namespace, address) in [(near, "10.200.77.1/30"), (far, "10.200.77.2/30")] {
            ip(&["-n", namespace, "address", "add", address, "dev", DEVICE])?;
            ip(&["-n", namespace, "link", "set", DEVICE, "up"])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        }
        Ok(())
    }

    /// The namespace of the client.
    pub(crate) fn near(&self) -> &str {
        &self.near
    }

    /// The namespace of the server.
    pub(crate) fn far(&self) -> &str {
        &self.far
    }

    /// From now on nothing that is sent arrives, and nobody is told.
    pub(crate) fn cut(&self) {
        ip(&["-n", &self.far, "link", "set", DEVICE, "down"]).expect("the link goes down");
    }

    /// All is well again.
    pub(crate) fn mend(&self) {
        ip(&["-n", &self.far, "link", "set", DEVICE, "up"]).expect("the link comes up");
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for namespace in [&self.near, &self.far] {
            let _ = ip(&["netns", "delete", namespace]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let ended = Command::new("ip").args(arguments).output().map_err(|error| format!("ip: {error}"))?;
    if ended.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&ended.stderr).trim().to_owned()) }
}

/// Namespaces in a row: each reaches the next one and no other.
pub(crate) struct Chain(Vec<String>);

impl Chain {
    /// Makes so many, and the links between them; nothing where that cannot be done.
    #[expect(clippy::print_stderr, reason = "a test that proves nothing must say so")]
    pub(crate) fn new(length: usize) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let id = Uuid::new_v4().simple().to_string();
        let mut chain = Self(Vec::new());
        for at in 0..length {
            let name = format!("sshmcp-{}-{at}", &id[..12]);
            if let Err(why) = ip(&["netns", "add", &name]) {
                eprintln!("skipped, this needs network namespaces: {why}");
                return None;
            }
            ip(&["-n", &name, "link", "set", "lo", "up"]).expect("a loopback device");
            chain.0.push(name);
        }
        for at in 1..length {
            chain.link(at).expect("a link");
        }
        Some(chain)
    }

    fn link(&self, at: usize) -> Result<(), String> {
        let (from, to) = (self.namespace(at - 1), self.namespace(at));
        ip(&["-n", from, "link", "add", "onward", "type", "veth", "peer", "name", "back", "netns", to])?;
        let ends =
            [(from, "onward", format!("10.200.{}.1/30", 80 + at)), (to, "back", format!("{}/30", Self::address(at)))];
        for (namespace, device, address) in ends {
            ip(&["-n", namespace, "address", "add", &address, "dev", device])?;
            ip(&["-n", namespace, "link", "set", device, "up"])?;
        }
        Ok(())
    }

    pub(crate) fn namespace(&self, at: usize) -> &str {
        &self.0[at]
    }

    /// Where one, from 1 on, is reached by the one before it.
    pub(crate) fn address(at: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 200, u8::try_from(80 + at).expect("a short chain"), 2)
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        for namespace in &self.0 {
            let _ = ip(&["netns", "delete", namespace]);
        }
    }
}
