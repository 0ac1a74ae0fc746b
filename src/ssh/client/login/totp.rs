//! One-time codes by time (RFC 6238), from a secret in base32 or in an `otpauth://totp/` URI.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE32_NOPAD;
use ring::hmac;
use secrecy::zeroize::Zeroizing;

/// The shortest step that a URI may ask for, and the longest, in seconds.
const STEP_SECS: std::ops::RangeInclusive<u64> = 5..=300;

/// Makes codes.
pub(super) struct Totp {
    key: hmac::Key,
    digits: u32,
    step: u64,
}

impl Totp {
    /// Reads the secret; none if it is not one. With the defaults of RFC 6238 where nothing else is said: SHA-1, six
    /// digits, 30 s.
    pub(super) fn parse(secret: &str) -> Option<Self> {
        let secret = secret.trim();
        let (mut key, mut algorithm) = (secret, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY);
        let (mut digits, mut step) = (6, 30);
        if let Some(rest) = strip_prefix_ignoring_case(secret, "otpauth://totp/") {
            key = "";
            for pair in rest.split_once('?')?.1.split('&') {
                let (name, value) = pair.split_once('=')?;
                match name.to_ascii_lowercase().as_str() {
                    "secret" => key = value,
                    "digits" => digits = value.parse().ok().filter(|digits| (6..=8).contains(digits))?,
                    "period" => step = value.parse().ok().filter(|step| STEP_SECS.contains(step))?,
                    "algorithm" => algorithm = algorithm_named(value)?,
                    _ => {}
                }
            }
        }
        let text: Zeroizing<String> = key
            .chars()
            .filter(|c| !matches!(c, ' ' | '-' | '='))
            .map(|c| c.to_ascii_uppercase())
            .collect::<String>()
            .into();
        let key = Zeroizing::new(BASE32_NOPAD.decode(text.as_bytes()).ok()?);
        (!key.is_empty()).then(|| Self { key: hmac::Key::new(algorithm, &key), digits, step })
    }

    /// The number of the step that `at` falls into.
    pub(super) fn step_at(&self, at: SystemTime) -> u64 {
        at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / self.step
    }

    /// When a step begins.
    pub(super) fn begin_of(&self, step: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(step.saturating_mul(self.step))
    }

    /// The code of a step (RFC 4226, section 5.3).
    pub(super) fn code(&self, step: u64) -> Zeroizing<String> {
        let tag = hmac::sign(&self.key, &step.to_be_bytes());
        let tag = tag.as_ref();
        let offset = usize::from(tag.last().copied().unwrap_or_default() & 0x0f);
        let four = tag.get(offset..offset + 4).and_then(|four| four.try_into().ok()).unwrap_or_default();
        let number = (u32::from_be_bytes(four) & 0x7fff_ffff) % 10_u32.pow(self.digits);
        Zeroizing::new(format!("{number:0width$}", width = self.digits as usize))
    }
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

fn algorithm_named(name: &str) -> Option<hmac::Algorithm> {
    match name.to_ascii_uppercase().as_str() {
        "SHA1" => Some(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        "SHA256" => Some(hmac::HMAC_SHA256),
        "SHA512" => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// RFC 6238, appendix B.
    #[test]
    fn gives_the_codes_of_the_rfc() {
        let seeds = [("SHA1", 20), ("SHA256", 32), ("SHA512", 64)];
        let table = [
            (59, ["94287082", "46119246", "90693936"]),
            (1_111_111_109, ["07081804", "68084774", "25091201"]),
            (1_111_111_111, ["14050471", "67062674", "99943326"]),
            (1_234_567_890, ["89005924", "91819424", "93441116"]),
            (2_000_000_000, ["69279037", "90698825", "38618901"]),
            (20_000_000_000, ["65353130", "77737706", "47863826"]),
        ];
        for (at, codes) in table {
            for ((algorithm, length), code) in seeds.iter().zip(codes) {
                let seed: Vec<u8> = b"1234567890".iter().copied().cycle().take(*length).collect();
                let secret = BASE32_NOPAD.encode(&seed);
                let uri =
                    format!("otpauth://totp/x:y?issuer=x&secret={secret}&algorithm={algorithm}&digits=8&period=30");
                let totp = Totp::parse(&uri).unwrap();
                let step = totp.step_at(UNIX_EPOCH + Duration::from_secs(at));
                assert_eq!(totp.code(step).as_str(), code, "{algorithm} at {at}");
            }
        }
    }

    #[test]
    fn reads_secrets_as_people_have_them_and_nothing_else() {
        let step = 37_037_036;
        // The first of RFC 6238, with six digits.
        for secret in [
            "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
            " gezd gnbv gy3t qojq gezd gnbv gy3t qojq\n",
            "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ====",
            "OTPAUTH://totp/me?secret=gezdgnbvgy3tqojqgezdgnbvgy3tqojq",
        ] {
            assert_eq!(Totp::parse(secret).unwrap().code(step).as_str(), "081804", "{secret}");
        }
        let uri = |rest: &str| format!("otpauth://totp/me?secret=GEZDGNBVGY3TQOJQ{rest}");
        let wrong = [
            "",
            "081804",
            "not base 32!",
            "otpauth://totp/me",
            "otpauth://hotp/me?secret=GEZDGNBVGY3TQOJQ",
            &uri("&digits=20"),
            &uri("&digits=0"),
            &uri("&period=0"),
            &uri("&algorithm=MD5"),
        ];
        for secret in wrong {
            assert!(Totp::parse(secret).is_none(), "{secret}");
        }
    }
}
