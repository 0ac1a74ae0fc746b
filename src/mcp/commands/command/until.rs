//! Waiting until something appears in the output: `until` and `until_regex`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    app::{CommandView, Offsets, Until},
    error::{Code, Details},
    mcp::failure::Failure,
    ssh::{
        async_command::{CommandInfo, Status},
        output::{Pattern, Source},
    },
};

/// Parameters of every tool that can wait for something in the output.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct UntilParams {
    /// Wait until this text appears in the output
    pub until: Option<String>,
    /// The same with a regular expression (by lines)
    pub until_regex: Option<String>,
}

impl UntilParams {
    /// Whether there is something to wait for.
    pub(super) const fn is_given(&self) -> bool {
        self.until.is_some() || self.until_regex.is_some()
    }

    /// What to wait for.
    ///
    /// # Errors
    ///
    /// `conflicting_arguments` where both are given, and why the pattern is refused.
    pub(super) fn pattern(&self) -> Result<Option<Pattern>, Failure> {
        match (&self.until, &self.until_regex) {
            (None, None) => Ok(None),
            (Some(text), None) => Ok(Some(Pattern::text(text)?)),
            (None, Some(expression)) => Ok(Some(Pattern::regex(expression)?)),
            (Some(_), Some(_)) => Err(Failure {
                details: Details::new().text("argument", "until_regex"),
                ..Failure::new(
                    Code::ConflictingArguments,
                    "until and until_regex are both given",
                    "Give one of them: an expression finds several texts, as in \"ready|ERROR\".",
                )
            }),
        }
    }
}

/// What became of the wait.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct UntilResult {
    /// With until or until_regex: whether it appeared.
    #[schemars(extend("x-unlisted" = true))]
    pub until_matched: bool,
    /// stdout or stderr.
    #[schemars(extend("x-unlisted" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matched_in: Option<&'static str>,
    /// Offset in that stream of what follows it: wait for the next one from here.
    #[schemars(extend("x-unlisted" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matched_end_offset: Option<u64>,
    /// The line it stands on, cut to 200 bytes.
    #[schemars(extend("x-unlisted" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matched_line: Option<String>,
}

impl UntilResult {
    /// What became of the wait, where there was one.
    pub(super) fn of(until: Option<&Until>) -> Option<Self> {
        let found = until?.found.as_ref();
        Some(Self {
            until_matched: found.is_some(),
            matched_in: found.map(|found| match found.source {
                Source::Stdout => "stdout",
                Source::Stderr => "stderr",
            }),
            matched_end_offset: found.map(|found| found.end),
            matched_line: found.map(|found| found.line.clone()),
        })
    }
}

/// The next step of a wait that has one of its own.
pub(super) fn hint(view: &CommandView) -> Option<String> {
    match (&view.until, view.info.status) {
        (Some(Until { found: None, goes_on_from, .. }), Status::Running) => Some(not_yet(&view.info, *goes_on_from)),
        _ => None,
    }
}

/// The next offsets of the answer would be wrong: what is waited for may have begun before them.
fn not_yet(info: &CommandInfo, from: Offsets) -> String {
    let offset = |name, from: Option<u64>| from.map(|from| format!("{name}={from}"));
    let offsets = [offset("stdout_offset", from.stdout), offset("stderr_offset", from.stderr)];
    let offsets: Vec<_> = offsets.into_iter().flatten().collect();
    format!(
        "It has not appeared yet and the command still runs: do not run it again. Wait on with ssh_get_command_output, \
         command_id \"{}\", the same until and {}.",
        info.id,
        offsets.join(" and ")
    )
}

/// What was not looked at.
pub(super) fn notices(until: Option<&Until>) -> Vec<String> {
    let missed = until.filter(|until| until.found.is_none() && until.missed_bytes > 0);
    let notice = missed.map(|until| {
        format!(
            "{} bytes of output were dropped before they could be searched: the text may have been in them.",
            until.missed_bytes
        )
    });
    notice.into_iter().collect()
}
