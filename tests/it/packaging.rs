//! The service files, the image, the workflow and the shell lines of the documents fit the program and can be parsed.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use ssh_mcp::config::{Args, Environment, Settings, vars};

const SYSTEM_UNIT: &str = "packaging/systemd/system/ssh-mcp.service";
const USER_UNIT: &str = "packaging/systemd/user/ssh-mcp.service";
const PROGRAMS: [&str; 2] = ["ssh-mcp", "ssh-mcp-stdio"];

/// Where other files are looked for; no settings.
const LOCATIONS: [&str; 4] = ["HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"];

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `key=value` of each line of a unit. Anything that is neither that, nor a section, nor a comment is a fault.
fn entries(unit: &str) -> Vec<(&str, &str)> {
    let lines = unit.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '[']));
    lines.map(|line| line.split_once('=').unwrap_or_else(|| panic!("{line}"))).collect()
}

fn values<'a>(entries: &[(&'a str, &'a str)], key: &str) -> Vec<&'a str> {
    entries.iter().filter(|(name, _)| *name == key).map(|(_, value)| *value).collect()
}

/// The variables of a package as the program finds them. Panics at a name that it does not read.
fn environment<'a>(assignments: impl IntoIterator<Item = &'a str>) -> Environment {
    let mut environment = Environment::default();
    for assignment in assignments {
        let (name, value) = assignment.split_once('=').unwrap_or_else(|| panic!("{assignment}"));
        let known = vars::ALL.iter().any(|var| var.env == name) || LOCATIONS.contains(&name);
        assert!(known, "{name} is no setting");
        environment = environment.with(name, value.replace("%t", "/run/user/1000"));
    }
    environment
}

/// What is wrong with the settings of a package, one line each.
fn faults(environment: &Environment, args: &Args) -> Vec<String> {
    let resolved = Settings::resolve(args, environment);
    resolved.err().map(|errors| errors.0.iter().map(ToString::to_string).collect()).unwrap_or_default()
}

#[test]
fn units_start_the_http_program_with_settings_that_exist() {
    for unit in [SYSTEM_UNIT, USER_UNIT] {
        let text = read(unit);
        let entries = entries(&text);
        assert_eq!(values(&entries, "ExecStart"), ["/usr/local/bin/ssh-mcp"], "{unit}");
        assert_eq!(values(&entries, "RestartPreventExitStatus"), ["2"], "{unit}");
        assert_eq!(values(&entries, "NoNewPrivileges"), ["yes"], "{unit}");
        let repeated = ["Environment", "SystemCallFilter"];
        let keys: Vec<_> = entries.iter().map(|(key, _)| *key).filter(|key| !repeated.contains(key)).collect();
        let distinct: BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len(), "{unit} sets a key twice");
    }
}

#[test]
fn system_unit_wants_a_token_and_is_not_root() {
    let text = read(SYSTEM_UNIT);
    let entries = entries(&text);
    let user = values(&entries, "User");
    assert!(read("packaging/systemd/sysusers.conf").contains(&format!("\nu {} ", user[0])));
    assert_ne!(user, ["root"]);
    // Its token file is absent here: that is the one thing that may be wrong.
    let faults = faults(&environment(values(&entries, "Environment")), &Args::default());
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("/etc/ssh-mcp/tokens: cannot be read"), "{faults:?}");
}

#[test]
fn user_unit_needs_nothing_but_itself() {
    let text = read(USER_UNIT);
    let environment = environment(values(&entries(&text), "Environment")).with("HOME", "/home/someone");
    assert_eq!(faults(&environment, &Args::default()), Vec::<String>::new());
}

/// The arguments of each line of the Dockerfile that begins with an instruction, continued lines joined.
fn instructions<'a>(dockerfile: &'a str, name: &str) -> Vec<&'a str> {
    dockerfile.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).collect()
}

#[test]
fn image_has_both_programs_and_no_root_and_no_secret() {
    let text = read("Dockerfile");
    let (_, last) = text.rsplit_once("\nFROM ").expect("two stages");
    let copied = instructions(last, "COPY").concat();
    for program in PROGRAMS {
        assert!(text.contains(&format!("target/dist/{program}")) && copied.contains(&format!("/out/{program}")));
    }
    assert_eq!(instructions(last, "ENTRYPOINT"), [r#"["/usr/local/bin/ssh-mcp"]"#]);
    assert_eq!(instructions(last, "USER"), ["65532:65532"]);
    assert_eq!(instructions(&text, "ARG"), Vec::<&str>::new());

    // Beyond the container it starts with a token and TLS, or not at all; the documented call has what it takes.
    let environment = environment(instructions(last, "ENV"));
    let alone = faults(&environment, &Args::default());
    assert_eq!(alone.len(), 1, "{alone:?}");
    assert!(alone[0].contains("needs MCP_TOKEN or MCP_TOKEN_FILE, and TLS"), "{alone:?}");
    let with_token = environment.with("MCP_TOKEN", "x".repeat(vars::MIN_TOKEN_CHARS)).with("MCP_INSECURE_HTTP", "true");
    assert_eq!(faults(&with_token, &Args::default()), Vec::<String>::new());
    assert!(read("packaging/README.md").contains("ssh-mcp --insecure-http\n"));
}

#[test]
fn released_programs_are_whole_and_unwind() {
    let manifest = read("Cargo.toml");
    let (_, profile) = manifest.split_once("\n[profile.dist]\n").expect("a profile");
    let profile = profile.split("\n[").next().unwrap_or(profile);
    for line in ["lto = true", "codegen-units = 1", "strip = true"] {
        assert!(profile.contains(line), "{line}");
    }
    // A panic must end one call and no more.
    assert!(!manifest.contains("\npanic ="));
    assert!(read("packaging/build").contains("--locked --profile dist --bins"));
}

#[test]
fn image_is_built_from_what_is_let_in() {
    let ignored = read(".dockerignore");
    let let_in: Vec<_> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(ignored.lines().any(|line| line == "*"));
    for needed in ["Cargo.toml", "Cargo.lock", "src", "benches", "examples", "packaging/build"] {
        assert!(let_in.contains(&needed), "{needed}");
    }
    for path in let_in {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists(), "{path}");
    }
}

#[test]
fn workflow_names_scripts_and_tests_that_exist() {
    let workflow = read(".github/workflows/ci.yml");
    let modules = read("tests/it/main.rs");
    let words = || workflow.split_whitespace();
    for module in words().filter_map(|word| word.strip_suffix("::")) {
        assert!(modules.contains(&format!("\nmod {module};")), "{module}");
    }
    let scripts: BTreeSet<_> =
        words().filter(|word| [".ci/", "packaging/"].iter().any(|at| word.starts_with(at))).collect();
    assert!(scripts.contains(".ci/run") && scripts.contains("packaging/reproduce"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for script in scripts.into_iter().filter(|script| !script.ends_with("README.md.")) {
        assert!(root.join(script).is_file(), "{script}");
    }
    for action in workflow.lines().filter_map(|line| line.trim().strip_prefix("- uses: ")) {
        let (_, version) = action.split_once('@').expect("a pinned action");
        assert!(version.starts_with('v') || version.len() == 40, "{action}");
    }
    assert!(workflow.contains("\npermissions:\n  contents: read\n"));
    // A plain value of YAML that has a colon and a space is no value. The lines of a folded one may have it.
    for line in workflow.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let line = line.trim_start().trim_start_matches("- ");
        let value = line.split_once(": ").map_or("", |(_, value)| value);
        let filters = line.ends_with("::");
        assert!(line.starts_with('{') || filters || !value.contains(": "), "{line}");
    }
}

/// What a shell says about a text that it only parses.
fn check_syntax(name: &str, text: &str) {
    let mut shell = Command::new("bash");
    shell.args(["-n", "-s"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut shell = shell.spawn().expect("bash");
    shell.stdin.take().expect("its input").write_all(text.as_bytes()).expect("bash reads");
    let output = shell.wait_with_output().expect("bash ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{name}: {said}\n{text}");
}

#[test]
fn shell_lines_of_the_documents_and_scripts_are_well_formed() {
    for document in ["README.md", "packaging/README.md"] {
        let text = read(document);
        let mut blocks = 0;
        for language in ["```console\n", "```bash\n"] {
            for block in text.split(language).skip(1) {
                let (block, _) = block.split_once("\n```").expect("an end of the block");
                check_syntax(document, block);
                blocks += 1;
            }
        }
        assert!(blocks >= 4, "{document}");
    }
    for script in [".ci/run", ".ci/dependencies", "packaging/build", "packaging/reproduce", "packaging/sbom"] {
        check_syntax(script, &read(script));
    }
}

#[test]
fn documents_name_files_that_exist() {
    for document in ["README.md", "packaging/README.md"] {
        let text = read(document);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
        let folder = folder.parent().expect("a folder");
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let path = target.split('#').next().unwrap_or(target);
            assert!(folder.join(path).exists(), "{document}: {target}");
        }
    }
}

#[test]
fn files_that_commands_copy_exist() {
    for document in ["README.md", "packaging/README.md"] {
        let text = read(document);
        let words = text.split(|c: char| c.is_whitespace() || "`()[]\"".contains(c));
        let named: BTreeSet<_> = words.filter(|word| word.starts_with("packaging/") && *word != "packaging/").collect();
        assert!(!named.is_empty(), "{document}");
        for path in named {
            assert!(
                Path::new(env!("CARGO_MANIFEST_DIR")).join(path.split('#').next().unwrap_or(path)).exists(),
                "{document}: {path}"
            );
        }
    }
}
