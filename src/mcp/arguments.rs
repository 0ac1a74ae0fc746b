//! What was said: the arguments of a call, read by the tool's own schema.
//!
//! Clients and models send `"60"`, `60.0`, `"true"`, `null`, `""` or `0` for values that they leave
//! open; all of that is read here and nowhere else, so that the schemas stay strict and the tools see
//! plain values. Everything that cannot be read is told at once, not fault by fault.

use serde_json::Value;

pub use self::{
    fault::{Fault, failure},
    param::{Kind, Param},
};
use super::schema::Object;

mod fault;
mod param;
mod unknown;

/// Faults that one answer tells at most: a caller that sends a thousand arguments is told twenty.
pub const FAULTS_LIMIT: usize = 20;

/// The arguments as the tool's parameters take them: only known names, only plain values, nothing
/// that was left open.
///
/// # Errors
///
/// Every fault: first those of arguments that were sent, in their order, then what is missing.
pub fn read(params: &[Param], arguments: Object) -> Result<Object, Vec<Fault>> {
    let mut values = Object::new();
    let mut faults = Vec::new();
    let mut refused = Vec::new();
    for (name, value) in arguments {
        if faults.len() == FAULTS_LIMIT {
            return Err(faults);
        }
        let Some(param) = params.iter().find(|param| param.name == name) else {
            faults.push(unknown::argument(params, &name));
            continue;
        };
        match param.read(value) {
            Ok(Some(value)) => drop(values.insert(name, value)),
            Ok(None) => {}
            Err(fault) => {
                refused.push(name);
                faults.push(*fault);
            }
        }
    }
    let missing =
        |param: &&Param| param.required && !values.contains_key(&param.name) && !refused.contains(&param.name);
    faults.extend(params.iter().filter(missing).map(Param::missing));
    if faults.is_empty() { Ok(values) } else { Err(faults) }
}

/// The fault of arguments that are no JSON object at all.
#[must_use]
pub fn not_an_object(arguments: &Value) -> Fault {
    Fault::not_an_object(param::kind_of(arguments))
}
