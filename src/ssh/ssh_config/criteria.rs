//! `Match`: its criteria, in the order in which they stand.

use super::{
    error::Problem,
    line::token,
    options::Origin,
    pass::Pass,
    pattern::{Verdict, matches_host, matches_list},
    probe::Exec,
    resolved::{Notice, NoticeKind},
    tokens::{Peer, Tokens},
};

/// Criteria of a later OpenSSH: never met here, and said so.
const LATER: [&str; 5] = ["tagged", "localnetwork", "command", "version", "sessiontype"];

/// Who would be connected to, were this line the last.
struct Subject {
    host: String,
    user: String,
}

/// Whether the criteria are met. `never`: the block cannot match anyway.
pub(super) fn evaluate(pass: &mut Pass<'_>, text: &str, origin: &Origin, never: bool) -> Result<bool, Problem> {
    let subject = subject(pass)?;
    let mut rest = Some(text);
    let mut result = true;
    let mut criteria = 0;
    while let Some(word) = token(&mut rest).filter(|word| !word.is_empty()) {
        if word.starts_with('#') {
            rest = None;
            break;
        }
        let (negated, name) = word.strip_prefix('!').map_or((false, word.as_str()), |name| (true, name));
        let name = name.to_ascii_lowercase();
        if name == "all" {
            result &= !negated;
            all_stands_alone(criteria, &mut rest)?;
            criteria += 1;
            break;
        }
        criteria += 1;
        let met = match name.as_str() {
            "canonical" | "final" => {
                // Only the first pass can ask for another one.
                pass.wants_final |= name == "final" && !pass.is_final;
                pass.is_final
            }
            _ => {
                let value = token(&mut rest).filter(|value| !value.is_empty() && !value.starts_with('#'));
                let value = value.ok_or(Problem::Missing)?;
                let Some(met) = criterion(pass, &subject, &name, &value, result && !never, origin)? else {
                    result = false;
                    continue;
                };
                met
            }
        };
        result &= met != negated;
    }
    if criteria == 0 {
        return Err(Problem::NoCriterion);
    }
    if rest.is_some_and(|rest| !rest.is_empty()) { Err(Problem::Extra) } else { Ok(result) }
}

/// Nothing follows `all`, and one criterion at most precedes it.
fn all_stands_alone(before: usize, rest: &mut Option<&str>) -> Result<(), Problem> {
    let next = token(rest).unwrap_or_default();
    let comment = next.starts_with('#');
    if comment {
        *rest = None;
    }
    if before > 1 || !(comment || next.is_empty()) { Err(Problem::AllWithOthers) } else { Ok(()) }
}

fn subject(pass: &Pass<'_>) -> Result<Subject, Problem> {
    let host = match &pass.options.host_name {
        Some(name) if pass.is_final => name.value.clone(),
        Some(name) => Tokens::host(&pass.host).expand(&name.value, None)?,
        None => pass.host.clone(),
    };
    let user = pass.options.user.as_ref().map_or(&pass.local.user, |user| &user.value).clone();
    Ok(Subject { host, user })
}

/// Whether one criterion with a value is met; `None` when that is not known, which meets nothing, negated or not.
fn criterion(
    pass: &mut Pass<'_>,
    subject: &Subject,
    name: &str,
    value: &str,
    matters: bool,
    origin: &Origin,
) -> Result<Option<bool>, Problem> {
    Ok(Some(match name {
        "host" => matches_host(&subject.host, value),
        "originalhost" => matches_host(pass.alias, value),
        "user" => matches_list(&subject.user, value, false) == Verdict::Yes,
        "localuser" => matches_list(&pass.local.user, value, false) == Verdict::Yes,
        "exec" => {
            let command = command(pass, subject, value)?;
            if !matters {
                return Ok(None);
            }
            match pass.probe.exec(&command) {
                Exec::Ended { success } => success,
                Exec::Failed(why) => return Err(Problem::Exec { why }),
                Exec::NotAllowed => return Ok(not_evaluated(pass, name, matters, origin)),
            }
        }
        _ if LATER.contains(&name) => return Ok(not_evaluated(pass, name, matters, origin)),
        _ => return Err(Problem::UnknownCriterion { name: super::error::shorten(name).into() }),
    }))
}

fn command(pass: &Pass<'_>, subject: &Subject, value: &str) -> Result<String, Problem> {
    let options = &pass.options;
    let peer = Peer {
        alias: pass.alias,
        host: &subject.host,
        key_alias: options.host_key_alias.as_ref().map_or(&subject.host, |alias| &alias.value),
        port: options.port.as_ref().map_or(22, |port| port.value),
        user: &subject.user,
        jump: "",
    };
    let given = options.user.as_ref().filter(|user| user.origin == Origin::Given && pass.probe.allows_exec());
    Tokens::all(&peer, pass.local).expand_line(value, given.map(|user| user.value.as_str()))
}

fn not_evaluated(pass: &mut Pass<'_>, name: &str, matters: bool, origin: &Origin) -> Option<bool> {
    let keyword = format!("match {name}");
    let notice = Notice { kind: NoticeKind::NotEvaluated, keyword, value: None, origin: origin.clone() };
    if matters && !pass.notices.contains(&notice) {
        pass.notices.push(notice);
    }
    None
}
