//! JSON Schema as clients can take it: the one transform over what schemars emits.
//!
//! Clients drop tools or whole lists over `$ref`, `$schema`, unions, nulls and numeric formats
//! (seen with Copilot, Gemini and Cursor, among others), so a schema of ours is a tree of plain typed nodes. Keys that begin
//! with `x-` are marks of our own on parameters; they steer [`super::arguments`] and stay here.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// A JSON object, in the order in which it was written.
pub type Object = Map<String, Value>;

/// What a node may hold, in this order; anything else that schemars emits is noise.
const KEYS: [&str; 8] = ["type", "description", "enum", "items", "properties", "required", "minimum", "maximum"];
/// What an input schema shows.
const INPUT: &[&str] = &KEYS;
/// What an output schema shows. No `required`: a failure has none of the fields, and the
/// TypeScript SDK 1.x validates failures too. No limits and no texts: every byte of the tool list is
/// paid for in every conversation.
const OUTPUT: &[&str] = &["type", "enum", "items", "properties"];

/// The mark of a field that is documented and not listed: few calls have it, and every conversation
/// pays for the list. Nothing forbids a field that is not listed.
pub const UNLISTED: &str = "x-unlisted";

/// The schema of `T` as one flat tree, with texts, limits and marks.
#[must_use]
pub fn whole<T: JsonSchema>() -> Object {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    flat(settings.into_generator().into_root_schema_for::<T>().as_value())
}

/// What clients see of a whole input schema.
#[must_use]
pub fn input(whole: &Object) -> Object {
    let mut schema = only(whole, INPUT);
    schema.remove("description");
    if !schema.contains_key("properties") {
        schema.insert("properties".into(), json!({}));
    }
    schema
}

/// What clients see of a whole output schema: with the members of a failure. (`notices`
/// is not listed: it costs more than it tells, and nothing forbids what is not listed.)
#[must_use]
pub fn output(whole: &Object) -> Object {
    let mut schema = only(whole, OUTPUT);
    if let Some(Value::Object(members)) = schema.get_mut("properties") {
        for (name, kind) in [("code", "string"), ("message", "string"), ("hint", "string"), ("retryable", "boolean")] {
            members.entry(name).or_insert_with(|| json!({ "type": kind }));
        }
    }
    schema
}

/// The named members of a node's `properties`.
pub fn properties(node: &Object) -> impl Iterator<Item = (&String, &Object)> {
    let members = node.get("properties").and_then(Value::as_object);
    members.into_iter().flatten().filter_map(|(name, node)| Some((name, node.as_object()?)))
}

/// Rewrites the text of every parameter.
pub fn describe(schema: &mut Object, text: impl Fn(&str) -> String) {
    let Some(Value::Object(members)) = schema.get_mut("properties") else {
        return;
    };
    for node in members.values_mut() {
        if let Some(Value::String(description)) = node.get_mut("description") {
            *description = text(description);
        }
    }
}

/// Whether `node` requires its member `name`.
#[must_use]
pub fn requires(node: &Object, name: &str) -> bool {
    let required = node.get("required").and_then(Value::as_array);
    required.is_some_and(|names| names.iter().any(|n| n == name))
}

fn flat(node: &Value) -> Object {
    let Some(node) = node.as_object() else {
        return Object::new();
    };
    let node = without_unions(node);
    let mut out = Object::new();
    for key in KEYS {
        if let Some(value) = node.get(key) {
            out.insert(key.into(), flat_member(key, value));
        }
    }
    let marks = node.iter().filter(|(key, _)| key.starts_with("x-"));
    out.extend(marks.map(|(key, value)| (key.clone(), value.clone())));
    out
}

fn flat_member(key: &str, value: &Value) -> Value {
    match (key, value) {
        ("items", node) => Value::Object(flat(node)),
        ("properties", Value::Object(nodes)) => {
            nodes.iter().map(|(name, node)| (name.clone(), Value::Object(flat(node)))).collect()
        }
        ("type", Value::Array(types)) => types.iter().find(|t| *t != "null").cloned().unwrap_or_default(),
        ("enum", Value::Array(words)) => words.iter().filter(|word| !word.is_null()).cloned().collect(),
        ("description", Value::String(text)) => text.split_whitespace().collect::<Vec<_>>().join(" ").into(),
        _ => value.clone(),
    }
}

/// Folds the arms of a union into the node: `X or null` is `X`, and constants are an enumeration.
fn without_unions(node: &Object) -> Object {
    let mut out = node.clone();
    let mut words = Vec::new();
    for union in ["anyOf", "oneOf", "allOf"] {
        let Some(Value::Array(arms)) = out.remove(union) else {
            continue;
        };
        for arm in arms.iter().filter_map(Value::as_object).filter(|arm| arm.get("type") != Some(&json!("null"))) {
            for (key, value) in without_unions(arm) {
                match key.as_str() {
                    "const" => words.push(value),
                    "enum" => words.extend(value.as_array().into_iter().flatten().cloned()),
                    _ => drop(out.entry(key).or_insert(value)),
                }
            }
        }
    }
    if !words.is_empty() {
        out.insert("enum".into(), Value::Array(words));
    }
    out
}

/// The node and all below it with these keys only.
fn only(node: &Object, keys: &[&str]) -> Object {
    let kept = node.iter().filter(|(key, _)| keys.contains(&key.as_str()));
    kept.map(|(key, value)| (key.clone(), only_member(key, value, keys))).collect()
}

fn only_member(key: &str, value: &Value, keys: &[&str]) -> Value {
    match (key, value) {
        ("items", Value::Object(node)) => Value::Object(only(node, keys)),
        ("properties", Value::Object(nodes)) => {
            let nodes = nodes.iter().filter_map(|(name, node)| Some((name, node.as_object()?)));
            let nodes = nodes.filter(|(_, node)| !node.contains_key(UNLISTED));
            nodes.map(|(name, node)| (name.clone(), Value::Object(only(node, keys)))).collect()
        }
        _ => value.clone(),
    }
}
