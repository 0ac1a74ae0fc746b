//! Requests to an agent as they arrive (draft-miller-ssh-agent): a length, a type, the rest. No I/O.

/// Longest message of either side, without its length. OpenSSH has the same limit.
pub(super) const MAX_MESSAGE_BYTES: usize = 256 << 10;
/// Bytes of the length.
const LENGTH_BYTES: usize = 4;

const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;
const EXTENSION: u8 = 27;
/// The one extension that is passed on: it narrows what the asker may do, when `ssh` goes on from the host.
const SESSION_BIND: &[u8] = b"\0\0\0\x18session-bind@openssh.com";

/// `SSH_AGENT_FAILURE`, as a whole message.
pub(super) const FAILURE: [u8; 5] = [0, 0, 0, 1, 5];

/// Why a host is given up.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// No agent takes such a message.
    Length,
    /// It sends on and on without waiting for answers.
    TooMuch,
}

/// What has arrived and was not asked yet: at most one message of the greatest length.
#[derive(Debug, Default)]
pub(super) struct Requests(Vec<u8>);

impl Requests {
    pub(super) fn add(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        if self.0.len() + bytes.len() > LENGTH_BYTES + MAX_MESSAGE_BYTES {
            return Err(Broken::TooMuch);
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole request with its length before it; none where it is still to come.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        let Some(length) = self.0.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let bytes = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if !(1..=MAX_MESSAGE_BYTES).contains(&bytes) {
            return Err(Broken::Length);
        }
        if self.0.len() < LENGTH_BYTES + bytes {
            return Ok(None);
        }
        let rest = self.0.split_off(LENGTH_BYTES + bytes);
        Ok(Some(std::mem::replace(&mut self.0, rest)))
    }
}

/// Whether a request is one that the agent is lent for.
pub(super) fn is_lent(request: &[u8]) -> bool {
    match request.get(LENGTH_BYTES..) {
        Some([REQUEST_IDENTITIES | SIGN_REQUEST, ..]) => true,
        Some([EXTENSION, rest @ ..]) => rest.starts_with(SESSION_BIND),
        _ => false,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn message(body: &[u8]) -> Vec<u8> {
        [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
    }

    #[test]
    fn requests_are_told_apart_however_they_arrive() {
        let (one, two) = (message(&[REQUEST_IDENTITIES]), message(&[SIGN_REQUEST, 1, 2, 3]));
        let mut requests = Requests::default();
        let mut found = Vec::new();
        for byte in [one.clone(), two.clone()].concat() {
            requests.add(&[byte]).unwrap();
            found.extend(requests.next().unwrap());
        }
        assert_eq!(found, [one.clone(), two.clone()]);
        requests.add(&[two.clone(), one.clone()].concat()).unwrap();
        assert_eq!((requests.next().unwrap(), requests.next().unwrap()), (Some(two), Some(one)));
        assert_eq!(requests.next(), Ok(None));
    }

    #[test]
    fn what_no_agent_takes_is_given_up() {
        for length in [0, 1 << 18 | 1, u32::MAX] {
            let mut requests = Requests::default();
            requests.add(&length.to_be_bytes()).unwrap();
            assert_eq!(requests.next(), Err(Broken::Length), "{length}");
        }
        let mut requests = Requests::default();
        requests.add(&message(&[SIGN_REQUEST; MAX_MESSAGE_BYTES])).unwrap();
        assert_eq!(requests.add(&[0]), Err(Broken::TooMuch));
        assert!(requests.next().unwrap().is_some());
        assert_eq!(requests.add(&[0]), Ok(()));
    }

    #[test]
    fn the_agent_is_lent_for_lists_and_signatures_and_nothing_else() {
        let bind = [&[EXTENSION][..], SESSION_BIND, b"..."].concat();
        let lent: Vec<_> = (0..=u8::MAX).filter(|kind| is_lent(&message(&[*kind, 0, 0, 0, 0]))).collect();
        assert_eq!(lent, [REQUEST_IDENTITIES, SIGN_REQUEST]);
        assert!(is_lent(&message(&bind)));
        assert!(!is_lent(&message(b"\x1b\0\0\0\x05query")) && !is_lent(&[]) && !is_lent(&[0, 0, 0]));
    }
}
