//! `docs/CONFIGURATION.md`, from the table of settings.

use super::vars::{ALL, DefaultValue, Var, sections};

/// The text of `docs/CONFIGURATION.md`.
#[must_use]
pub fn markdown() -> String {
    let rows: String = ALL.iter().map(row).collect();
    include_str!("configuration.md").replace("{table}", &rows).replace("{example}", &example())
}

fn row(var: &Var) -> String {
    let option = var.option.map_or_else(|| "-".to_owned(), |option| format!("`--{option}`"));
    let default = match var.default {
        DefaultValue::Value(value) => format!("`{value}`"),
        DefaultValue::Computed(text) => text.to_owned(),
        DefaultValue::Absent => "-".to_owned(),
    };
    let unit = var.unit.unwrap_or("-");
    format!("| `{}` | `{}` | {option} | {default} | {unit} | {} | {} |\n", var.env, var.path(), var.kind, var.doc)
}

/// A file with every default, and the rest as comments.
fn example() -> String {
    let mut text = String::new();
    for section in sections() {
        text.push_str(&format!("{}[{section}]\n", if text.is_empty() { "" } else { "\n" }));
        for var in ALL.iter().filter(|var| var.section == section) {
            text.push_str(&example_line(var));
        }
    }
    text
}

fn example_line(var: &Var) -> String {
    match var.default {
        DefaultValue::Value(value) if var.is_quoted() => format!("{} = \"{value}\"\n", var.key),
        DefaultValue::Value(value) => format!("{} = {value}\n", var.key),
        DefaultValue::Computed(_) | DefaultValue::Absent => format!("# {} = \"...\"\n", var.key),
    }
}
