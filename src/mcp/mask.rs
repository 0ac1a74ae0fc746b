//! Passwords in a command line, as far as they can be told for sure: hidden where the line is echoed.
//!
//! What is sent to the host is never changed. One pass over the text, a few more where a quoted part
//! is a command line itself (`bash -c '..'`).

mod expansion;
mod judge;
mod shell;

use std::{borrow::Cow, ops::Range};

/// What stands in place of a password.
const MASK: &str = "***";

/// The command line without its passwords.
#[must_use]
pub fn masked(command: &str) -> Cow<'_, str> {
    let spans = spans(command);
    if spans.is_empty() {
        return Cow::Borrowed(command);
    }
    let (mut text, mut from) = (String::with_capacity(command.len()), 0);
    for span in spans {
        text.push_str(&command[from..span.start]);
        text.push_str(MASK);
        from = span.end;
    }
    text.push_str(&command[from..]);
    Cow::Owned(text)
}

/// Whether a password was found in the command line.
#[must_use]
pub fn holds_password(command: &str) -> bool {
    !spans(command).is_empty()
}

/// Where the passwords stand, in order and apart from each other.
fn spans(command: &str) -> Vec<Range<usize>> {
    let mut found = shell::read(command);
    found.retain(|span| !span.is_empty() && !expansion::only(command, span));
    found.sort_unstable_by_key(|span| span.start);
    let mut spans: Vec<Range<usize>> = Vec::new();
    for span in found {
        match spans.last_mut() {
            Some(last) if span.start < last.end => last.end = last.end.max(span.end),
            _ => spans.push(span),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked() {
        for (command, expected) in [
            ("echo pw | sudo -S id", "echo *** | sudo -S id"),
            ("echo 'p w' | sudo -S id", "echo *** | sudo -S id"),
            ("echo \"p\\\"w\" | sudo -S id", "echo *** | sudo -S id"),
            ("echo -n pw|sudo -kS id", "echo -n ***|sudo -kS id"),
            ("echo -pw | sudo -S id", "echo *** | sudo -S id"),
            ("printf 'pw\\n' | sudo -S id", "printf *** | sudo -S id"),
            ("printf '%s\\n' pw | sudo --stdin id", "printf '%s\\n' *** | sudo --stdin id"),
            ("LANG=C echo pw | FOO=1 /usr/bin/sudo -p '' -S id", "LANG=C echo *** | FOO=1 /usr/bin/sudo -p '' -S id"),
            ("cd /x && echo pw | env A=b sudo -u root -S id; ls", "cd /x && echo *** | env A=b sudo -u root -S id; ls"),
            ("echo pw \\\n | sudo -S id", "echo *** \\\n | sudo -S id"),
            ("echo pw |\n sudo -S id\nls", "echo *** |\n sudo -S id\nls"),
            ("echo pw 2>/dev/null | tee x | sudo -S id", "echo *** 2>/dev/null | tee x | sudo -S id"),
            ("sudo -S id <<< pw", "sudo -S id <<< ***"),
            ("sudo -S <<<'p w' id && ls", "sudo -S <<<*** id && ls"),
            ("cat <<< pw | sudo -S id", "cat <<< *** | sudo -S id"),
            ("sudo -S id <<EOF && ls\npw\nEOF\necho done", "sudo -S id <<EOF && ls\n***\nEOF\necho done"),
            ("sudo -S id <<-'E F'\n\tpw\n\tE F\nls", "sudo -S id <<-'E F'\n***\n\tE F\nls"),
            ("(echo pw; cat f) | sudo -S tee g", "(echo ***; cat f) | sudo -S tee g"),
            ("{ echo pw; cat f; } | sudo -S tee g", "{ echo ***; cat f; } | sudo -S tee g"),
            ("bash -c 'echo pw | sudo -S id'", "bash -c 'echo *** | sudo -S id'"),
            ("ssh h \"echo \\\"pw\\\" | sudo -S id\"", "ssh h \"echo *** | sudo -S id\""),
            ("x=$(echo pw | sudo -S id)", "x=$(echo *** | sudo -S id)"),
            ("if echo pw | sudo -S id; then ls; fi", "if echo *** | sudo -S id; then ls; fi"),
            ("P=pw; echo \"$P\" | sudo -S id", "P=***; echo \"$P\" | sudo -S id"),
            ("echo u:pw | chpasswd", "echo *** | chpasswd"),
            ("echo pw | passwd --stdin u", "echo *** | passwd --stdin u"),
            ("echo pw | su -c id", "echo *** | su -c id"),
            ("echo t | docker login -u u --password-stdin r", "echo *** | docker login -u u --password-stdin r"),
            ("sshpass -p pw ssh h", "sshpass -p *** ssh h"),
            ("sshpass -p'pw' ssh h", "sshpass -p*** ssh h"),
            ("SSHPASS=pw sshpass -e ssh h", "SSHPASS=*** sshpass -e ssh h"),
            ("mysql -u root -ppw -e 'select 1'", "mysql -u root -p*** -e 'select 1'"),
            ("mysqldump --password='p w' db", "mysqldump --password=*** db"),
            ("PGPASSWORD=pw psql -c 'x'", "PGPASSWORD=*** psql -c 'x'"),
            ("docker run -e MYSQL_ROOT_PASSWORD=pw mysql", "docker run -e MYSQL_ROOT_PASSWORD=*** mysql"),
            ("PW=pw; sshpass -p \"$PW\" ssh h", "PW=***; sshpass -p \"$PW\" ssh h"),
            ("PGPASSWORD=${PW:-pw} psql", "PGPASSWORD=*** psql"),
            ("PGPASSWORD='$pw' psql", "PGPASSWORD=*** psql"),
            ("PGPASSWORD=p$w psql", "PGPASSWORD=*** psql"),
            ("PGPASSWORD=$ psql", "PGPASSWORD=*** psql"),
            ("curl -u me:pw https://h", "curl -u *** https://h"),
            ("echo é | sudo -S id # ü", "echo *** | sudo -S id # ü"),
        ] {
            assert_eq!(masked(command), expected, "{command}");
            assert!(holds_password(command), "{command}");
        }
    }

    #[test]
    fn what_is_no_password_stays() {
        for command in [
            "",
            "ls -l",
            "echo pw",
            "echo pw | sudo tee -S x",
            "echo pw | sudo -n id",
            "echo pw || sudo -S id",
            "echo pw; sudo -S id",
            "echo pw # | sudo -S id",
            "echo \"$PW\" | sudo -S id",
            "echo \"$(cat pw)\" | sudo -S id",
            "echo \"u:$PW\" | chpasswd",
            "PGPASSWORD=\"$(cat /run/secrets/pg)\" psql",
            "PGPASSWORD=$(kubectl get secret \"$(id -un)\") psql",
            "PGPASSWORD=`cat pw` psql",
            "PASSWORD=$1 ./run",
            "PASSWORD=${DB_PW:?} ./run",
            "sshpass -p \"$PW\" ssh h",
            "mysql -p\"$DB_PW\" -u root",
            "mysql --password=${10} db",
            "curl -u \"$U:$P\" https://h",
            "curl -u me:$P https://h",
            "curl -u me:$(cat pw) https://h",
            "echo 'pw' > f",
            "sudo -u Sam id <<< text",
            "sudo -S id < file",
            "cat file | sudo -S id",
            "cat <<< text | grep t",
            "mysql -p -u root",
            "mkdir -p /srv/x",
            "ssh -p 2222 h",
            "PASSWORD=$X ./run",
            "PASSWORD= ./run",
            "curl -u me https://h",
            "echo 'unterminated | sudo -S id",
            "case x in a) echo b;; esac",
            ")))(((",
            "a <<",
            "echo \\",
        ] {
            assert_eq!(masked(command), command);
        }
    }

    #[test]
    fn the_work_grows_with_the_text_alone() {
        let long = 120_000;
        let hostile = [
            "(".repeat(long),
            format!("{}echo a{}|sudo -S", "(".repeat(long / 4), ")".repeat(long / 4)),
            "(echo a;".repeat(long / 8),
            "echo a|sudo -S|".repeat(long / 15),
            "a <<E ".repeat(long / 6) + "\n" + &"x\n".repeat(long / 8),
            "'\"".repeat(long / 2),
            "\"'\\\"".repeat(long / 4),
            "P=a;echo $P|sudo -S;".repeat(long / 20),
            "é".repeat(long / 2),
        ];
        for command in hostile {
            // Quadratic work would not come to its end here.
            let _ = masked(&command);
        }
    }
}
