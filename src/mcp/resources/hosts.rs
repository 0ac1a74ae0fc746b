//! Hosts of the configuration of `ssh` as resources, `ssh-mcp://host/{address}`, and as completions of that address.

use rmcp::{
    ErrorData,
    model::{
        ArgumentInfo, CompleteRequestParams, CompletionInfo, ReadResourceResult, Reference, Resource, ResourceContents,
        ResourceTemplate,
    },
};
use serde_json::json;

use super::not_found;
use crate::{
    app::{App, Error, HostRow, HostView},
    config::percent_decode,
    mcp::{
        commands::{hosts::HostWord, session::ResolvedWord},
        types::host_port,
    },
    ssh::ids::Owner,
};

/// Where all of them begin.
const PREFIX: &str = "ssh-mcp://host/";
/// The form of their addresses.
const FORM: &str = "ssh-mcp://host/{address}";
/// The variable in it.
const VARIABLE: &str = "address";
/// What they are.
const MIME: &str = "application/json";

/// The hosts, as far as one answer of `ssh_list_hosts` has them. A configuration that cannot be read has none here:
/// the other resources are listed all the same.
pub(super) async fn list(app: &App, owner: &Owner) -> Vec<Resource> {
    match app.hosts(owner, None).await {
        Ok(page) => page.hosts.iter().map(row).collect(),
        Err(error) => {
            tracing::debug!(%error, "no hosts are listed");
            Vec::new()
        }
    }
}

fn row(host: &HostRow) -> Resource {
    let target = &host.target;
    let place = format!("{}@{}", target.username, host_port(&target.host, target.port));
    Resource::new(address_of(&host.alias), host.alias.clone()).with_description(place).with_mime_type(MIME)
}

pub(super) fn template() -> ResourceTemplate {
    let text = "A host of the user's ssh configuration: what it means, and which line says so.";
    ResourceTemplate::new(FORM, "ssh host").with_description(text).with_mime_type(MIME)
}

/// Whether an address is one of these.
pub(super) fn is_ours(address: &str) -> bool {
    address.starts_with(PREFIX)
}

pub(super) async fn read(app: &App, owner: &Owner, address: &str) -> Result<ReadResourceResult, ErrorData> {
    let alias = address.strip_prefix(PREFIX).and_then(decoded).ok_or_else(|| not_found(address))?;
    let view = app.host(owner, &alias).await.map_err(|error: Error| super::refused(&error))?;
    let HostView { host, resolved, notices } = view.ok_or_else(|| not_found(address))?;
    let resolved: Vec<ResolvedWord> = resolved.into_iter().map(Into::into).collect();
    let text = json!({ "host": HostWord::from(host), "notices": notices, "resolved": resolved });
    Ok(ReadResourceResult::new(vec![ResourceContents::text(text.to_string(), address).with_mime_type(MIME)]))
}

/// Values for the variable of the template.
///
/// # Errors
///
/// `invalid params` for anything else that could be completed.
pub async fn complete(app: &App, owner: &Owner, asked: &CompleteRequestParams) -> Result<CompletionInfo, ErrorData> {
    let CompleteRequestParams { r#ref, argument: ArgumentInfo { name, value, .. }, .. } = asked;
    if !matches!(r#ref, Reference::Resource(template) if template.uri == FORM) || name != VARIABLE {
        return Err(ErrorData::invalid_params(format!("{VARIABLE} of {FORM} is all that can be completed"), None));
    }
    let mut values = app.complete_host(owner, value).await.unwrap_or_default();
    let total = values.len();
    values.truncate(CompletionInfo::MAX_VALUES);
    let more = total > values.len();
    CompletionInfo::with_pagination(values, u32::try_from(total).ok(), more)
        .map_err(|error| ErrorData::internal_error(error, None))
}

/// RFC 3986, section 2.3: everything but the unreserved characters is escaped.
fn address_of(alias: &str) -> String {
    let mut address = PREFIX.to_owned();
    for byte in alias.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => address.push(byte.into()),
            other => address.push_str(&format!("%{other:02X}")),
        }
    }
    address
}

fn decoded(text: &str) -> Option<String> {
    percent_decode(text).map(|text| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_read_back_from_its_address() {
        for alias in ["db", "team/db+1", "a~b=c^d", "bücher"] {
            let address = address_of(alias);
            assert!(address.is_ascii() && !address[PREFIX.len()..].contains('/'), "{address}");
            assert_eq!(decoded(&address[PREFIX.len()..]).as_deref(), Some(alias));
        }
        assert_eq!(decoded("a%2"), None);
        assert_eq!(decoded("%zz"), None);
    }
}
