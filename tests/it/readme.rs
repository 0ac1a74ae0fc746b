//! What the README and the service files say agrees with the code and with each other.

use std::{collections::BTreeSet, fs, path::Path};

use ssh_mcp::config::{Args, Environment, Settings, vars};

/// The tools of the contract.
const TOOLS: [&str; 10] = [
    "ssh_connect",
    "ssh_execute",
    "ssh_execute_async",
    "ssh_get_command_output",
    "ssh_list_commands",
    "ssh_cancel_command",
    "ssh_forward",
    "ssh_disconnect",
    "ssh_list_sessions",
    "ssh_list_hosts",
];

/// The call that has to work as it stands, with no other header.
const CURL: &str = r#"curl -X POST http://localhost:8000/mcp -H "Content-Type: application/json" \
  -d '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ssh_list_sessions","arguments":{}}}'"#;

/// Names that look like settings and are none: variables of the tests.
const NOT_SETTINGS: [&str; 1] = ["SSH_MCP_REQUIRE_SSHD"];

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The texts of all blocks of a language.
fn blocks<'a>(document: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    let starts = document.split(&fence).skip(1);
    starts.filter_map(|rest| rest.split_once("```")).map(|(block, _)| block).collect()
}

/// All words made of letters, digits and `_` that begin with one of the prefixes.
fn words<'a>(document: &'a str, prefixes: &[&str]) -> BTreeSet<&'a str> {
    let words = document.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix))).collect()
}

#[test]
fn readme_has_the_curl_line_of_the_contract() {
    assert!(read("README.md").contains(CURL));
}

#[test]
fn readme_names_every_tool_and_no_other() {
    let readme = read("README.md");
    let named: BTreeSet<_> = words(&readme, &["ssh_"]);
    // The library's own name stands in log filters.
    let expected: BTreeSet<_> = TOOLS.into_iter().chain(["ssh_mcp"]).collect();
    assert_eq!(named, expected);
    for tool in TOOLS {
        assert!(readme.contains(&format!("\n### {tool}\n")), "{tool} has no section");
    }
}

#[test]
fn readme_names_every_setting_and_no_other() {
    let readme = read("README.md");
    let mut named = words(&readme, &["SSH_", "MCP_"]);
    named.retain(|name| !NOT_SETTINGS.contains(name));
    named.insert("RUST_LOG");
    let expected: BTreeSet<_> = vars::ALL.iter().map(|var| var.env).collect();
    assert_eq!(named, expected);
}

#[test]
fn readme_states_the_defaults_in_force() {
    let readme = read("README.md");
    for var in vars::ALL {
        let vars::DefaultValue::Value(default) = var.default else {
            continue;
        };
        let row = format!("| `{}` | {default} |", var.env);
        assert!(readme.contains(&row), "{row}");
    }
}

#[test]
fn readme_client_files_and_arguments_are_json() {
    let readme = read("README.md");
    let blocks = blocks(&readme, "json");
    assert!(blocks.len() >= 8);
    for block in blocks {
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(block);
        assert!(parsed.is_ok_and(|value| value.is_object()), "{block}");
    }
}

#[test]
fn readme_settings_file_is_accepted() {
    let readme = read("README.md");
    let [example] = blocks(&readme, "toml")[..] else { panic!("one block is expected") };
    let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let home = directory.path();
    let config = home.join("config.toml");
    // Its token file is absent here: that is the one thing that may be reported.
    fs::write(&config, example).unwrap_or_else(|error| panic!("{error}"));
    let args = Args { config: Some(config), ..Args::default() };
    let Err(errors) = Settings::resolve(&args, &Environment::default().with("HOME", home)) else {
        panic!("the token file is missing");
    };
    assert_eq!(errors.0.len(), 1, "{errors}");
    assert!(errors.to_string().contains("/.config/ssh-mcp/tokens: cannot be read"), "{errors}");
}

#[test]
fn service_files_agree_with_the_readme() {
    let readme = read("README.md");
    for (file, start) in [
        ("com.farchanjo.ssh-mcp.plist", "### launchd: system daemon"),
        ("com.farchanjo.ssh-mcp.agent.plist", "### launchd: agent of one user"),
    ] {
        let plist = read(file);
        let section = readme.split_once(start).map(|(_, rest)| rest.split("\n### ").next());
        let Some(Some(section)) = section else { panic!("{start} is missing") };
        let label = file.trim_end_matches(".plist");
        assert!(plist.contains(&format!("<string>{label}</string>")), "{file}");
        assert!(plist.contains("<key>MCP_PORT</key>\n        <string>8000</string>"), "{file}");
        assert!(section.contains("launchctl kickstart -k ") && section.contains("http://localhost:8000/health"));
        for key in ["StandardOutPath", "StandardErrorPath"] {
            let path = value_of(&plist, key).replace("@HOME@", "~");
            assert!(section.contains(&path), "{file}: {path} is not in the README");
        }
        let tokens = value_of(&plist, "MCP_TOKEN_FILE").replace("@HOME@", "~");
        assert!(readme.contains(&tokens), "{file}: {tokens} is not in the README");
    }
    let daemon = read("com.farchanjo.ssh-mcp.plist");
    for key in ["UserName", "WorkingDirectory"] {
        assert!(readme.contains(value_of(&daemon, key)), "{key}");
    }
    assert_ne!(value_of(&daemon, "UserName"), "root");
}

/// The string after a key of a property list.
fn value_of<'a>(plist: &'a str, key: &str) -> &'a str {
    let value = plist
        .split_once(&format!("<key>{key}</key>"))
        .and_then(|(_, rest)| rest.split_once("<string>").and_then(|(_, rest)| rest.split_once("</string>")));
    value.map_or_else(|| panic!("{key} is missing"), |(value, _)| value)
}
