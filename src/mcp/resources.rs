//! MCP resources: output of commands, `ssh-mcp://command/{command_id}/stdout` and `/stderr`, and the hosts that the
//! configuration of `ssh` names, `ssh-mcp://host/{address}`.
//!
//! A caller sees its own commands only; another's reads like one that does not exist.

use rmcp::{
    ErrorData,
    model::{
        ErrorCode, ListResourceTemplatesResult, ListResourcesResult, MetaObject, ReadResourceResult, Resource,
        ResourceContents, ResourceTemplate,
    },
};
use serde_json::json;

pub use self::{
    hosts::complete,
    subscriptions::{MAX_SUBSCRIPTIONS, Subscriptions, follow_all},
    uri::Uri,
};
use super::{
    failure::shown,
    types::{StatusWord, echoed, host_port},
};
use crate::{
    app::{App, CommandFilter, CommandView, Error},
    ssh::{
        async_command::CommandInfo,
        ids::Owner,
        output::{Source, StreamView, View},
    },
};

mod hosts;
mod subscriptions;
mod uri;

/// Bytes of text in one answer.
const READ_BYTES: usize = 40_000;

/// The longest address that an error repeats in full. A longer one is none of ours.
const TOLD_BYTES: usize = 1_000;

/// What all output is.
const MIME: &str = "text/plain; charset=utf-8";

/// The caller's commands, newest first, two resources each; then the hosts.
///
/// # Errors
///
/// None that a caller can bring about.
pub async fn list(app: &App, owner: &Owner) -> Result<ListResourcesResult, ErrorData> {
    let page = app.commands(owner, &CommandFilter::default()).map_err(|error| refused(&error))?;
    let both = |info| [Source::Stdout, Source::Stderr].map(|source| row(info, source));
    let mut rows: Vec<_> = page.commands.iter().flat_map(both).collect();
    rows.extend(hosts::list(app, owner).await);
    Ok(ListResourcesResult::with_all_items(rows))
}

fn row(info: &CommandInfo, source: Source) -> Resource {
    let uri = Uri { command_id: info.id.to_string(), source, offset: None };
    let target = &info.target;
    let place = format!("{}@{}", target.username, host_port(&target.host, target.port));
    Resource::new(uri.to_string(), format!("{} of {}", uri.stream(), echoed(&info.command)))
        .with_description(format!("{place}, {}", info.status.as_str()))
        .with_mime_type(MIME)
}

/// The forms of the addresses.
#[must_use]
pub fn templates() -> ListResourceTemplatesResult {
    let template = |stream: &str| {
        let form = format!("ssh-mcp://command/{{command_id}}/{stream}{{?offset}}");
        let text = "Output of a command: its head and its tail, or what follows the byte offset. \
                    command_id is that of ssh_execute, ssh_execute_async or ssh_list_commands.";
        ResourceTemplate::new(form, format!("{stream} of a command")).with_description(text).with_mime_type(MIME)
    };
    ListResourceTemplatesResult::with_all_items(vec![template("stdout"), template("stderr"), hosts::template()])
}

/// What a stream holds, or what a host means.
///
/// # Errors
///
/// `resource not found`, also for a command of somebody else.
pub async fn read(app: &App, owner: &Owner, address: &str) -> Result<ReadResourceResult, ErrorData> {
    if hosts::is_ours(address) {
        return hosts::read(app, owner, address).await;
    }
    let uri = Uri::parse(address).ok_or_else(|| not_found(address))?;
    let view = match (uri.offset, uri.source) {
        (None, _) => View::HeadAndTail,
        (offset, Source::Stdout) => View::From { stdout: offset, stderr: None },
        (offset, Source::Stderr) => View::From { stdout: None, stderr: offset },
    };
    let view = app.look(owner, &uri.command_id, view, READ_BYTES).await.map_err(|_| not_found(address))?;
    let CommandView { info, output, .. } = view;
    let stream = match uri.source {
        Source::Stdout => output.stdout,
        Source::Stderr => output.stderr,
    };
    Ok(ReadResourceResult::new(vec![contents(address, &info, stream)]))
}

fn contents(address: &str, info: &CommandInfo, stream: StreamView) -> ResourceContents {
    let mut meta = MetaObject::new();
    meta.insert("ssh-mcp/status".into(), json!(StatusWord::from(info.status)));
    meta.insert("ssh-mcp/total_bytes".into(), json!(stream.total_bytes));
    let text = stream.shown.map(|shown| {
        meta.insert("ssh-mcp/offset".into(), json!(shown.offset));
        meta.insert("ssh-mcp/next_offset".into(), json!(shown.next_offset));
        shown.text
    });
    ResourceContents::text(text.unwrap_or_default(), address).with_mime_type(MIME).with_meta(meta)
}

/// Nothing that this caller could read has this address.
fn not_found(address: &str) -> ErrorData {
    ErrorData::resource_not_found(
        format!("resource not found: {}; resources/list and resources/templates/list name them", shown(address)),
        // 2026-07-28 wants it told in a field of its own.
        (address.len() <= TOLD_BYTES).then(|| json!({ "uri": address })),
    )
}

fn refused(error: &Error) -> ErrorData {
    ErrorData::new(ErrorCode::INTERNAL_ERROR, error.to_string(), None)
}
