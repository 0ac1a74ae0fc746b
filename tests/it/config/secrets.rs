//! Tokens: where they come from, whom they stand for, and that no message shows them.

use std::fs;

use ssh_mcp::config::{Args, Environment};

use super::{
    from_environment, private_file, refusal, refused_environment, refused_file, resolve, set_mode, with_config,
};
use crate::support::openssh::is_root;

const TOKEN: &str = "canary-0123456789abcdef";

fn refused_tokens(text: impl AsRef<[u8]>) -> String {
    let (_directory, path) = private_file(text);
    let path = path.display().to_string();
    refused_environment([("MCP_TOKEN_FILE", path.as_str())]).replace(&path, "FILE")
}

#[test]
fn address_beyond_loopback_needs_a_token_and_tls() {
    let (insecure, token) = (("MCP_INSECURE_HTTP", "yes"), ("MCP_TOKEN", TOKEN));
    for bind in ["0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1"] {
        let needs = |what: &str| {
            format!(
                "1 setting cannot be used; nothing was started\n  MCP_BIND (environment): {bind} is not a loopback address \
                 and needs {what}"
            )
        };
        let (tokens, tls) =
            ("MCP_TOKEN or MCP_TOKEN_FILE", "TLS (MCP_TLS_CERT and MCP_TLS_KEY) or an explicit --insecure-http");
        assert_eq!(refused_environment([("MCP_BIND", bind)]), needs(&format!("{tokens}, and {tls}")));
        assert_eq!(refused_environment([("MCP_BIND", bind), insecure]), needs(tokens));
        assert_eq!(refused_environment([("MCP_BIND", bind), token]), needs(tls));
        let settings = from_environment([("MCP_BIND", bind), token, insecure]);
        assert_eq!(settings.http.bind.to_string(), bind);
    }
    for bind in ["127.0.0.2", "::1", "::ffff:127.0.0.1"] {
        from_environment([("MCP_BIND", bind)]);
    }
}

#[test]
fn certificate_and_key_come_together_and_the_key_is_private() {
    let (_one, certificate) = private_file("certificate");
    let (_two, key) = private_file("canary");
    let (certificate, path) = (certificate.display().to_string(), key.display().to_string());
    let both = [("MCP_TLS_CERT", certificate.as_str()), ("MCP_TLS_KEY", path.as_str())];
    let settings = from_environment(both);
    assert!(settings.http.tls.is_some() && !format!("{settings:?}").contains("canary"));
    assert!(refused_environment([both[0]]).contains("MCP_TLS_CERT (environment): needs MCP_TLS_KEY too"));
    assert!(refused_environment([both[1]]).contains("MCP_TLS_KEY (environment): needs MCP_TLS_CERT too"));
    assert!(refused_environment([both[0], ("MCP_TLS_KEY", "/nonexistent")]).contains("/nonexistent: cannot be read"));
    if cfg!(unix) {
        set_mode(&key, 0o640);
        assert!(refused_environment(both).contains("open to the group or to others"));
    }
}

#[test]
fn lists_of_hosts_and_origins_are_exact_names() {
    let settings = from_environment([
        ("MCP_ALLOWED_HOSTS", "MCP.example.org, 10.0.0.5:8443,[2001:db8::1]"),
        ("MCP_ALLOWED_ORIGINS", "https://App.example.org,http://10.0.0.5:3000"),
    ]);
    let hosts: Vec<_> = settings.http.allowed_hosts.iter().map(|one| (one.host.as_str(), one.port)).collect();
    assert_eq!(hosts, [("mcp.example.org", None), ("10.0.0.5", Some(8443)), ("[2001:db8::1]", None)]);
    assert_eq!(settings.http.allowed_origins, ["https://app.example.org", "http://10.0.0.5:3000"]);
    for hosts in ["*", "*.example.org", "a,,b", "http://a", "a/b", "u@a", "a:", "a:99999", "a b"] {
        let message = refused_environment([("MCP_ALLOWED_HOSTS", hosts)]);
        assert!(message.contains("is not a list such as `mcp.example.org"), "{hosts}: {message}");
    }
    for origins in ["*", "null", "app.example.org", "https://*.example.org", "https://a/b", "file://a", "https://"] {
        let message = refused_environment([("MCP_ALLOWED_ORIGINS", origins)]);
        assert!(message.contains("is not a list such as `https://app"), "{origins}: {message}");
    }
}

#[test]
fn token_file_names_principals() {
    let (_directory, path) = private_file(format!("# who\n\nalice: {TOKEN}\r\nb.2:abcdefgh:ijklmnop\n"));
    let environment = Environment::from([("MCP_TOKEN", "0123456789abcdef")]).with("MCP_TOKEN_FILE", path.as_os_str());
    let settings = resolve(&Args::default(), environment);
    let tokens: Vec<_> = settings.http.tokens.iter().collect();
    let pairs: Vec<_> = tokens.iter().map(|t| (t.name.as_str(), t.token.expose())).collect();
    assert_eq!(pairs, [("token", "0123456789abcdef"), ("alice", TOKEN), ("b.2", "abcdefgh:ijklmnop")]);
}

#[test]
fn wrong_token_lines_are_all_refused_and_no_token_is_shown() {
    let text = format!("alice:{TOKEN}\nalice:other-{TOKEN}\nbob:{TOKEN}\n{TOKEN}\n:{TOKEN}\nc d:{TOKEN}\neve:short\n");
    let message = refused_tokens(text);
    for expected in [
        "FILE:2: the name `alice` is given twice",
        "FILE:3: `bob` has the same token as `alice`",
        "FILE:4: is not a `name:token` line",
        "FILE:5: the name is not 1 to 64 letters",
        "FILE:6: the name is not",
        "FILE:7: the token of `eve` is not 16 to 512 visible ASCII characters",
    ] {
        assert!(message.contains(expected), "{expected}\nis not in\n{message}");
    }
    assert!(!message.contains("canary") && !message.contains("short"), "{message}");
}

#[test]
fn token_file_without_a_token_is_refused() {
    assert!(refused_tokens("# nobody\n").contains("holds no `name:token` line"));
}

#[test]
fn wrong_token_is_never_shown() {
    let message = refused_environment([("MCP_TOKEN", "canary short")]);
    assert!(message.contains("MCP_TOKEN (environment): the value is not 16 to"), "{message}");
    let from_file = refused_file("[mcp]\ntoken = \"canary short\"\n[ssh]\nmax_retries = -1");
    let wrong_type = refused_file("[mcp]\ntoken = [\"canary\"]\n");
    assert!(!format!("{message}{from_file}{wrong_type}").contains("canary"));
    let settings = from_environment([("MCP_TOKEN", TOKEN)]);
    assert!(!format!("{settings:?}").contains(TOKEN));
}

#[test]
#[cfg(unix)]
fn secrets_that_others_could_read_are_refused() {
    let (_directory, tokens) = private_file(format!("alice:{TOKEN}"));
    let (_other, config) = private_file(format!("[mcp]\ntoken = \"{TOKEN}\""));
    let environment = Environment::default().with("MCP_TOKEN_FILE", tokens.as_os_str());
    assert_eq!(resolve(&with_config(&config), Environment::default()).http.tokens.len(), 1);
    for mode in [0o640, 0o604, 0o620] {
        set_mode(&tokens, mode);
        set_mode(&config, mode);
        assert!(refusal(&Args::default(), &environment).contains("chmod 600"), "{mode:o}");
        assert!(refusal(&with_config(&config), &Environment::default()).contains("chmod 600"), "{mode:o}");
    }
}

#[test]
fn no_token_is_named_as_those_without_one() {
    let message = refused_tokens(format!("alice:{TOKEN}\nlocal:other-{TOKEN}\n"));
    assert!(message.contains("FILE:2: the name `local` stands for callers without a token"), "{message}");
}

#[test]
#[cfg(unix)]
fn settings_that_others_could_change_are_refused() {
    use std::os::unix::fs::{chown, symlink};
    let (directory, config) = private_file("[ssh]\nmax_retries = 1\n[secrets.x]\ncommand = [\"true\"]\n");
    for mode in [0o664, 0o646, 0o622] {
        set_mode(&config, mode);
        let message = refusal(&with_config(&config), &Environment::default());
        assert!(message.contains("can be changed by the group or by others"), "{mode:o}: {message}");
    }
    let link = directory.path().join("link");
    symlink(&config, &link).unwrap();
    for mode in [0o644, 0o600, 0o400] {
        set_mode(&config, mode);
        for path in [&config, &link] {
            assert_eq!(resolve(&with_config(path), Environment::default()).ssh.max_retries, 1, "{mode:o}");
        }
    }
    set_mode(&config, 0o664);
    assert!(refusal(&with_config(&link), &Environment::default()).contains("can be changed"));
    if is_root() {
        // Only root can give a file to another user.
        set_mode(&config, 0o600);
        chown(&config, Some(12_345), None).unwrap();
        assert!(refusal(&with_config(&config), &Environment::default()).contains("belongs to another user"));
        let (_tokens, tokens) = private_file(format!("alice:{TOKEN}"));
        chown(&tokens, Some(12_345), None).unwrap();
        let environment = Environment::default().with("MCP_TOKEN_FILE", tokens.as_os_str());
        assert!(refusal(&Args::default(), &environment).contains("belongs to another user"));
    }
}

#[test]
fn secrets_that_the_log_has_no_room_to_mask_are_refused_at_the_start() {
    let (_directory, config) = private_file("[secrets.a]\nenv = \"A\"\n[secrets.b]\nenv = \"B\"\n");
    let costly = |bytes: usize| "\u{1}".repeat(bytes);
    let environment = Environment::from([("A", costly(60_000)), ("B", format!("b{}", costly(60_000)))]);
    let message = refusal(&with_config(&config), &environment);
    assert!(message.contains(":3: the secrets in use are too many or too long"), "{message}");
    // Equal ones take room once.
    resolve(&with_config(&config), Environment::from([("A", costly(60_000)), ("B", costly(60_000))]));

    let lines = (0..8).map(|n| format!("t{n}:{n}{}\n", "\"".repeat(500)));
    let (_other, tokens) = private_file(lines.collect::<String>());
    let environment = Environment::from([("A", costly(104_500))]).with("MCP_TOKEN_FILE", tokens.as_os_str());
    let message = refusal(&with_config(&config), &environment);
    assert!(message.contains("MCP_TOKEN_FILE (environment): the secrets in use are too many"), "{message}");
}

#[test]
fn named_secrets_are_read_without_reading_what_they_name() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.toml");
    let text = "[secrets.a]\nenv = \"A\"\nhosts = [\"h\", \"*.b:22\"]\n[secrets.b]\nfile = \"/no/file\"\n\
                [secrets.c]\ncommand = [\"pass\", \"show\"]\n[secrets.d]\ncommand = \"/bin/one\"\n";
    fs::write(&config, text).unwrap();
    let environment = Environment::from([("A", "the-secret-canary")]);
    let settings = resolve(&with_config(&config), environment);
    assert_eq!(settings.secrets.named.keys().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    assert_eq!(settings.secrets.live.count(), 1);
    assert!(!format!("{settings:?}").contains("canary"));
}

#[test]
fn wrong_secret_is_refused_with_its_line() {
    let cases = [
        ("[secrets]\na = \"x\"", "write [secrets.a]"),
        ("[secrets.a]", "exactly one"),
        ("[secrets.a]\nenv = \"A\"\nfile = \"/f\"", "exactly one"),
        ("[secrets.a]\nenv = \"A\"\nhost = [\"h\"]", "unknown key `host`"),
        ("[secrets.a]\nenv = \"A\"\nhosts = []", "hosts"),
        ("[secrets.a]\nenv = \"A\"\nhosts = [\"u@h\"]", "hosts"),
        ("[secrets.a]\nenv = \"A\"\nhosts = [\"h\"]\njump = \"code\"", "`jump`"),
        ("[secrets.a]\nenv = \"A\"\njump = \"totp\"", "needs `hosts`"),
        ("[secrets.a]\nenv = 1", "name of a variable"),
        ("[secrets.a]\nfile = \"relative\"", "absolute path"),
        ("[secrets.a]\ncommand = []", "command"),
        ("[secrets.a]\ncommand = [\"bin/relative\"]", "command"),
        ("[secrets.\"a b\"]\nenv = \"A\"", "letters, digits"),
        ("secrets = 1", "[secrets.NAME]"),
    ];
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.toml");
    for (text, fault) in cases {
        fs::write(&config, format!("\n{text}\n")).unwrap();
        let message = refusal(&with_config(&config), &Environment::default());
        assert!(message.contains(fault) && message.contains("config.toml:"), "{text}: {message}");
    }
}
