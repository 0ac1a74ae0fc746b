//! `docs/API.md` says what the code says.

use std::{fs, path::Path};

use ssh_mcp::{error::Code, mcp::commands};

#[test]
fn docs_api_is_what_the_table_of_tools_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/API.md");
    let document = commands::markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &document).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == document, "docs/API.md is stale: run UPDATE_DOCS=1 cargo test docs_api");
}

#[test]
fn docs_api_names_every_tool_parameter_and_code() {
    let document = commands::markdown();
    for tool in commands::tools() {
        assert!(document.contains(&format!("\n## {}\n", tool.name)), "{}", tool.name);
        for param in &tool.params {
            assert!(document.contains(&format!("| `{}` |", param.name)), "{} {}", tool.name, param.name);
        }
    }
    for code in Code::ALL {
        assert!(document.contains(&format!("| `{code}` |")), "{code}");
    }
}
