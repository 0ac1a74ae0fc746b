//! Who is at the other end of a connection, as far as the system tells.
//!
//! A token says who calls. Without one, the port of a machine with several users would serve all of them, so on Linux
//! the owner of the client's socket is looked up, once per connection.

use std::{net::SocketAddr, sync::Arc};

/// Who may be behind a connection.
#[cfg_attr(not(unix), expect(dead_code, reason = "nothing tells whose a socket is"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transport) enum Caller {
    /// Nobody looked: a token decides, where there is one.
    Unchecked,
    /// The user of this process, or root.
    Own,
    /// Another user of this machine.
    Other(u32),
    /// The system does not tell.
    Unknown,
}

/// The uid that `/proc` shows for every user whom the namespace of this process does not know.
#[cfg(unix)]
const OVERFLOW_UID: u32 = 65_534;

#[cfg(unix)]
impl Caller {
    /// What a uid means to the process of `own`.
    pub(super) fn of(uid: u32, own: u32) -> Self {
        match uid {
            0 => Self::Own,
            OVERFLOW_UID => Self::Unknown,
            uid if uid == own => Self::Own,
            uid => Self::Other(uid),
        }
    }
}

/// The uid of this process.
#[cfg(unix)]
pub(super) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Looks up who has the other end of a connection of this machine.
#[cfg(target_os = "linux")]
pub(super) async fn look_up(sockets: Arc<Sockets>, client: SocketAddr, server: SocketAddr) -> Caller {
    let accepted = std::time::Instant::now();
    let found = tokio::task::spawn_blocking(move || sockets.owner(client, server, accepted));
    match tokio::time::timeout(LOOK_UP, found).await {
        Ok(Ok(Some(uid))) => Caller::of(uid, own_uid()),
        _ => Caller::Unknown,
    }
}

/// Other systems have no such table: what protects the port there is a token.
#[cfg(not(target_os = "linux"))]
pub(super) async fn look_up(_: Arc<Sockets>, _: SocketAddr, _: SocketAddr) -> Caller {
    Caller::Unchecked
}

#[cfg(target_os = "linux")]
pub(super) use linux::Sockets;

/// Nothing to look at.
#[cfg(not(target_os = "linux"))]
#[derive(Debug, Default)]
pub(super) struct Sockets;

/// How long a look-up may take.
#[cfg(target_os = "linux")]
const LOOK_UP: std::time::Duration = std::time::Duration::from_secs(10);

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        collections::HashMap,
        fs::File,
        io::{BufRead, BufReader, Read, Seek},
        net::{IpAddr, Ipv4Addr, SocketAddr},
        sync::{Mutex, PoisonError},
        time::Instant,
    };

    /// What is read of a table, at most: some 100,000 sockets.
    const MAX_TABLE_BYTES: u64 = 16 * 1024 * 1024;

    /// A table that changes while it is read may miss a line.
    const READINGS: usize = 2;

    /// The tables of sockets. They stay open: a process without a free descriptor must still know its callers.
    #[derive(Debug)]
    pub(in super::super) struct Sockets(Mutex<Tables>);

    #[derive(Debug)]
    struct Tables {
        files: Vec<File>,
        /// When the last reading began.
        begun: Option<Instant>,
        /// What it found: the owner of each client of the server, by its ends.
        owners: HashMap<[String; 2], u32>,
    }

    impl Default for Sockets {
        fn default() -> Self {
            let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
            let files = tables.into_iter().filter_map(|table| File::open(table).ok()).collect();
            Self(Mutex::new(Tables { files, begun: None, owners: HashMap::new() }))
        }
    }

    impl Sockets {
        /// The uid of the socket at `client` that is connected to `server`, since `accepted` at the latest.
        ///
        /// One reading serves all connections that were there when it began, the second as the first: a thousand that
        /// come at once cost a few.
        pub(super) fn owner(&self, client: SocketAddr, server: SocketAddr, accepted: Instant) -> Option<u32> {
            let mut since = accepted;
            (0..READINGS).find_map(|_| {
                let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if tables.begun.is_none_or(|begun| begun < since) {
                    tables.read(server.port());
                }
                let found = tables.find(client, server);
                since = Instant::now();
                found
            })
        }
    }

    impl Tables {
        fn read(&mut self, port: u16) {
            self.begun = Some(Instant::now());
            self.owners.clear();
            for file in &mut self.files {
                if file.rewind().is_ok() {
                    collect(file, port, &mut self.owners);
                }
            }
        }

        fn find(&self, client: SocketAddr, server: SocketAddr) -> Option<u32> {
            // A socket that listens on ::ffff:127.0.0.1 has clients of IPv4, and either form may be in a table.
            let (client, server) = (canonical(client), canonical(server));
            let ends = [[plain(client), plain(server)], [mapped(client), mapped(server)]];
            ends.iter().find_map(|ends| self.owners.get(ends).copied())
        }
    }

    /// Collects the clients of a port.
    fn collect(table: impl Read, port: u16, owners: &mut HashMap<[String; 2], u32>) {
        let port = format!(":{port:04X} ");
        let (mut table, mut line) = (BufReader::new(table.take(MAX_TABLE_BYTES)), String::new());
        while table.read_line(&mut line).is_ok_and(|read| read > 0) {
            // Cheap, and so for nearly every line: the table may be long.
            if line.contains(&port)
                && let Some((ends, uid)) = owner_in(&line)
            {
                owners.insert(ends, uid);
            }
            line.clear();
        }
    }

    /// The ends and the uid of a line (proc_pid_net(5)).
    ///
    /// A closed socket has inode 0, and a uid of 0 whoever had it. It tells nothing: else a stranger could send a
    /// request, close, and pass for root.
    fn owner_in(line: &str) -> Option<([String; 2], u32)> {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let ends = [fields.next()?.to_owned(), fields.next()?.to_owned()];
        let uid = fields.nth(4)?.parse().ok()?;
        let inode: u64 = fields.nth(1)?.parse().ok()?;
        (inode != 0).then_some((ends, uid))
    }

    /// An IPv4 address as such, whatever socket it came from.
    fn canonical(end: SocketAddr) -> SocketAddr {
        SocketAddr::new(end.ip().to_canonical(), end.port())
    }

    /// An end as the table has it: words of 32 bits in the byte order of the machine.
    fn plain(end: SocketAddr) -> String {
        let octets = match end.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let words = octets.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        let address: String = words.map(|word| format!("{word:08X}")).collect();
        format!("{address}:{:04X}", end.port())
    }

    /// A socket for IPv6 can be connected to an IPv4 address.
    fn mapped(end: SocketAddr) -> String {
        match end.ip() {
            IpAddr::V4(ip) => plain(SocketAddr::new(Ipv4Addr::to_ipv6_mapped(&ip).into(), end.port())),
            IpAddr::V6(_) => plain(end),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        const HEAD: &str =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";

        fn found(line: &str) -> Option<u32> {
            found_at(line, Ipv4Addr::LOCALHOST.into())
        }

        fn found_at(line: &str, ip: IpAddr) -> Option<u32> {
            let (client, server) = (SocketAddr::new(ip, 0x9C40), SocketAddr::new(ip, 8000));
            let mut tables = Tables { files: Vec::new(), begun: None, owners: HashMap::new() };
            collect(format!("{HEAD}\n{line}\n").as_bytes(), server.port(), &mut tables.owners);
            tables.find(client, server)
        }

        #[test]
        #[cfg(target_endian = "little")]
        fn the_uid_is_that_of_the_clients_end() {
            let rest = "01 00000000:00000000 00:00000000 00000000  1001        0 54321 1 0";
            assert_eq!(found(&format!("   0: 0100007F:9C40 0100007F:1F40 {rest}")), Some(1001));
            let long = "0000000000000000FFFF00000100007F";
            assert_eq!(found(&format!("   0: {long}:9C40 {long}:1F40 {rest}")), Some(1001));
            // A server of ::ffff:127.0.0.1 knows its ends in that form.
            let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
            assert_eq!(found_at(&format!("   0: 0100007F:9C40 0100007F:1F40 {rest}"), mapped), Some(1001));
            assert_eq!(found_at(&format!("   0: {long}:9C40 {long}:1F40 {rest}"), mapped), Some(1001));
            // The server's own end, and a client of another port.
            assert_eq!(found(&format!("   0: 0100007F:1F40 0100007F:9C40 {rest}")), None);
            assert_eq!(found(&format!("   0: 0100007F:9C40 0100007F:1F41 {rest}")), None);
        }

        #[test]
        #[cfg(target_endian = "little")]
        fn a_socket_that_is_closed_already_is_nobodys() {
            let orphan =
                "   0: 0100007F:9C40 0100007F:1F40 05 00000000:00000000 00:00000000 00000000     0        0 0 1 0";
            assert_eq!(found(orphan), None);
        }
    }
}
