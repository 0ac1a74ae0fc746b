//! The command line, and what a start says when it cannot go on.

use ssh_mcp::config::{
    Environment,
    cli::{Binary, Stop, parse_from},
    vars,
};

#[test]
fn wrong_settings_end_the_start_with_one_message() {
    let environment = Environment::from([("MCP_PORT", "abc"), ("SSH_MAX_RETRIES", "-1")]);
    let Err(Stop::Wrong(message)) = parse_from(Binary::Http, ["ssh-mcp"], &environment) else {
        panic!("accepted");
    };
    assert_eq!(
        message,
        "ssh-mcp: 2 settings cannot be used; nothing was started\n  \
         SSH_MAX_RETRIES (environment): \"-1\" is not a whole number from 0 to 100\n  \
         MCP_PORT (environment): \"abc\" is not a whole number from 0 to 65535"
    );
}

#[test]
fn stop_goes_to_the_stream_and_status_it_belongs_to() {
    let report = |args: &[&str]| {
        let Err(stop) = parse_from(Binary::Http, args, &Environment::default()) else { panic!("accepted") };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = stop.report(&mut out, &mut err);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (format!("{status:?}").contains("(0)"), text(out), text(err))
    };
    let (success, out, err) = report(&["ssh-mcp", "--version"]);
    assert!(success && out.starts_with("ssh-mcp ") && err.is_empty(), "{out}{err}");
    let (success, out, err) = report(&["ssh-mcp", "--help"]);
    assert!(success && err.is_empty(), "{err}");
    assert!(vars::ALL.iter().all(|var| out.contains(var.env)), "{out}");
    assert!(["--port", "--bind", "--config"].iter().all(|option| out.contains(option)), "{out}");
    let (success, out, err) = report(&["ssh-mcp", "--prot", "1"]);
    assert!(!success && out.is_empty() && err.contains("--prot"), "{out}{err}");
}

#[test]
fn stdio_program_has_no_options_of_the_http_server() {
    let environment = Environment::default();
    assert!(parse_from(Binary::Stdio, ["ssh-mcp-stdio", "--port", "1"], &environment).is_err());
    assert!(parse_from(Binary::Http, ["ssh-mcp", "--port", "1", "--bind", "::1"], &environment).is_ok());
}
