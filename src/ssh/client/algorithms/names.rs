//! The algorithms that this program has, by their names in the protocol, best first.

use crate::ssh::ssh_config::AlgorithmEdit;

/// What is chosen for a connection; `kind` of a failed negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Key exchange.
    Kex,
    /// What the host key signs with.
    HostKey,
    /// Cipher.
    Cipher,
    /// Message authentication.
    Mac,
    /// Compression.
    Compression,
    /// What a key of the user signs with.
    PublicKey,
}

/// The names of one kind.
struct Names {
    /// Tried by default.
    modern: &'static [&'static str],
    /// Not weak; off unless somebody asks for them.
    optional: &'static [&'static str],
    /// Known to be weak.
    weak: &'static [&'static str],
}

const KEX: Names = Names {
    modern: &[
        "mlkem768x25519-sha256",
        "curve25519-sha256",
        "curve25519-sha256@libssh.org",
        "diffie-hellman-group-exchange-sha256",
        "diffie-hellman-group18-sha512",
        "diffie-hellman-group17-sha512",
        "diffie-hellman-group16-sha512",
        "diffie-hellman-group15-sha512",
        "diffie-hellman-group14-sha256",
    ],
    optional: &["ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521"],
    weak: &["diffie-hellman-group-exchange-sha1", "diffie-hellman-group14-sha1", "diffie-hellman-group1-sha1"],
};

/// Certificates go first, as in OpenSSH; which of them are asked for depends on known_hosts.
const HOST_KEYS: Names = Names {
    modern: &[
        "ssh-ed25519-cert-v01@openssh.com",
        "ecdsa-sha2-nistp256-cert-v01@openssh.com",
        "ecdsa-sha2-nistp384-cert-v01@openssh.com",
        "ecdsa-sha2-nistp521-cert-v01@openssh.com",
        "rsa-sha2-512-cert-v01@openssh.com",
        "rsa-sha2-256-cert-v01@openssh.com",
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "rsa-sha2-512",
        "rsa-sha2-256",
    ],
    optional: &[],
    weak: &["ssh-rsa-cert-v01@openssh.com", "ssh-rsa"],
};

/// AES-GCM first: with AES hardware it takes about half the processor time of ChaCha20.
const CIPHERS: Names = Names {
    modern: &[
        "aes256-gcm@openssh.com",
        "aes128-gcm@openssh.com",
        "chacha20-poly1305@openssh.com",
        "aes256-ctr",
        "aes192-ctr",
        "aes128-ctr",
    ],
    optional: &[],
    weak: &["aes256-cbc", "aes192-cbc", "aes128-cbc", "3des-cbc"],
};

const MACS: Names = Names {
    modern: &["hmac-sha2-512-etm@openssh.com", "hmac-sha2-256-etm@openssh.com", "hmac-sha2-512", "hmac-sha2-256"],
    optional: &[],
    weak: &["hmac-sha1-etm@openssh.com", "hmac-sha1"],
};

/// No list of ssh_config's: it says only whether there is any.
const COMPRESSION: Names = Names { modern: &["none"], optional: &["zlib@openssh.com", "zlib"], weak: &[] };

const PUBLIC_KEYS: Names = Names {
    modern: &[
        "ssh-ed25519-cert-v01@openssh.com",
        "ecdsa-sha2-nistp256-cert-v01@openssh.com",
        "ecdsa-sha2-nistp384-cert-v01@openssh.com",
        "ecdsa-sha2-nistp521-cert-v01@openssh.com",
        "sk-ssh-ed25519-cert-v01@openssh.com",
        "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
        "rsa-sha2-512-cert-v01@openssh.com",
        "rsa-sha2-256-cert-v01@openssh.com",
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
        "rsa-sha2-512",
        "rsa-sha2-256",
    ],
    optional: &[],
    weak: &["ssh-rsa-cert-v01@openssh.com", "ssh-rsa"],
};

impl Kind {
    const fn names(self) -> &'static Names {
        match self {
            Kind::Kex => &KEX,
            Kind::HostKey => &HOST_KEYS,
            Kind::Cipher => &CIPHERS,
            Kind::Mac => &MACS,
            Kind::Compression => &COMPRESSION,
            Kind::PublicKey => &PUBLIC_KEYS,
        }
    }

    /// Its keyword in ssh_config.
    pub(in crate::ssh::client) const fn keyword(self) -> &'static str {
        match self {
            Kind::Kex => "KexAlgorithms",
            Kind::HostKey => "HostKeyAlgorithms",
            Kind::Cipher => "Ciphers",
            Kind::Mac => "MACs",
            Kind::Compression => "Compression",
            Kind::PublicKey => "PubkeyAcceptedAlgorithms",
        }
    }

    /// What a sentence calls it.
    pub(in crate::ssh::client) const fn noun(self) -> &'static str {
        match self {
            Kind::Kex => "key exchange",
            Kind::HostKey => "host key algorithm",
            Kind::Cipher => "cipher",
            Kind::Mac => "MAC",
            Kind::Compression => "compression",
            Kind::PublicKey => "signature",
        }
    }

    /// The wire form.
    pub(in crate::ssh::client) const fn as_str(self) -> &'static str {
        match self {
            Kind::Kex => "kex",
            Kind::HostKey => "host_key",
            Kind::Cipher => "cipher",
            Kind::Mac => "mac",
            Kind::Compression => "compression",
            Kind::PublicKey => "public_key",
        }
    }

    /// Every name that there is, best first.
    pub(super) fn all(self) -> Vec<&'static str> {
        let Names { modern, optional, weak } = self.names();
        [*modern, *optional, *weak].concat()
    }

    /// The names that are tried, in order. `legacy` adds to what is tried by default; a list that ssh_config gives in
    /// full stands as it is.
    pub(super) fn choose(self, edit: Option<&AlgorithmEdit>, legacy: bool) -> Vec<String> {
        let all = self.all();
        let default = if legacy { &all[..] } else { self.names().modern };
        match edit {
            Some(edit) => edit.apply(default, &all),
            None => default.iter().map(ToString::to_string).collect(),
        }
    }

    /// Whether it is known to be weak.
    pub(super) fn is_weak(self, name: &str) -> bool {
        self.names().weak.contains(&name)
    }

    /// What is wrong with it, in a word or two.
    pub(super) fn weakness(self, name: &str) -> Option<&'static str> {
        self.is_weak(name).then_some(match name {
            "diffie-hellman-group1-sha1" => "1024 bits, SHA-1",
            "3des-cbc" => "64-bit blocks, CBC",
            _ if name.ends_with("-cbc") => "CBC",
            _ => "SHA-1",
        })
    }
}
