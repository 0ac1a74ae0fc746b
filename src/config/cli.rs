//! The command line of both programs, and the one call that turns a start into settings.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Arg, ArgMatches, Command, value_parser};

use super::{
    Environment, Settings,
    vars::{self, DefaultValue, Var},
};

/// Exit status of a start that failed on its settings or its arguments.
const USAGE_STATUS: u8 = 2;

/// Which program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `ssh-mcp`.
    Http,
    /// `ssh-mcp-stdio`.
    Stdio,
}

impl Binary {
    /// The name of the program.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "ssh-mcp",
            Self::Stdio => "ssh-mcp-stdio",
        }
    }

    const fn about(self) -> &'static str {
        match self {
            Self::Http => "SSH for AI agents: an MCP server over HTTP (/mcp, /sse, /health)",
            Self::Stdio => "SSH for AI agents: an MCP server over standard input and output",
        }
    }
}

/// What the command line says. Values are texts: they are judged together with those of the other sources.
#[derive(Clone, Debug, Default)]
pub struct Args {
    /// `--config`: the file to read instead of the usual one.
    pub config: Option<PathBuf>,
    /// `--port`.
    pub port: Option<OsString>,
    /// `--bind`.
    pub bind: Option<OsString>,
    /// `--insecure-http`.
    pub insecure_http: Option<OsString>,
}

impl Args {
    /// The value of an option of the table.
    pub(super) fn get(&self, option: &str) -> Option<&OsStr> {
        match option {
            "port" => self.port.as_deref(),
            "bind" => self.bind.as_deref(),
            "insecure-http" => self.insecure_http.as_deref(),
            _ => None,
        }
    }
}

/// Why a program ends before it has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// `--help` or `--version`: the text was what was asked for.
    Asked(String),
    /// The arguments or the settings are wrong.
    Wrong(String),
}

impl Stop {
    /// Writes the text to the stream that it belongs to; returns the status to end with.
    pub fn report(&self, stdout: &mut impl Write, stderr: &mut impl Write) -> ExitCode {
        // Nobody may be listening any more; the status still tells.
        let write = |to: &mut dyn Write, text: &str| -> io::Result<()> {
            writeln!(to, "{}", text.trim_end())?;
            to.flush()
        };
        match self {
            Self::Asked(text) => write(stdout, text).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
            Self::Wrong(text) => {
                write(stderr, text).ok();
                ExitCode::from(USAGE_STATUS)
            }
        }
    }
}

/// Reads the arguments and the environment of this process and resolves the settings.
///
/// # Errors
///
/// [`Stop`] when help was asked for, an argument is unknown, or any setting is wrong.
pub fn parse(binary: Binary) -> Result<Settings, Stop> {
    parse_from(binary, std::env::args_os(), &Environment::of_process())
}

/// The same with the arguments (the first is the program) and the environment given.
///
/// # Errors
///
/// As [`parse`].
pub fn parse_from<I>(binary: Binary, args: I, environment: &Environment) -> Result<Settings, Stop>
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    let matches = command(binary).try_get_matches_from(args).map_err(|error| {
        let text = error.render().to_string();
        if error.use_stderr() { Stop::Wrong(text) } else { Stop::Asked(text) }
    })?;
    Settings::resolve(&args_of(&matches), environment)
        .map_err(|errors| Stop::Wrong(format!("{}: {errors}", binary.name())))
}

fn command(binary: Binary) -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("Settings file [default: $XDG_CONFIG_HOME/ssh-mcp/config.toml or ~/.config/ssh-mcp/config.toml]");
    let options = vars::ALL.iter().filter(|_| binary == Binary::Http).filter_map(option);
    Command::new(binary.name())
        .version(env!("CARGO_PKG_VERSION"))
        .about(binary.about())
        .arg(config)
        .args(options)
        .after_help(environment_help())
}

/// Texts, not typed values: a wrong one is reported with all the others.
fn option(var: &Var) -> Option<Arg> {
    let name = var.option?;
    let help = format!("{}{}", var.doc, default_of(var));
    let arg = Arg::new(name).long(name).value_parser(value_parser!(OsString)).help(help);
    // A word that stands alone is a yes; `=false` overrides the environment.
    let flag = matches!(var.kind, vars::Kind::Bool);
    Some(if flag { arg.num_args(0..=1).require_equals(true).default_missing_value("true") } else { arg })
}

fn environment_help() -> String {
    let width = vars::ALL.iter().map(|var| var.env.len()).max().unwrap_or(0);
    let lines = vars::ALL.iter().map(|var| {
        let unit = var.unit.map_or_else(String::new, |unit| format!(" ({unit})"));
        format!("\n  {:width$}  {}{unit}{}", var.env, var.doc, default_of(var))
    });
    format!("Environment, unless an argument says otherwise; above the settings file:{}", lines.collect::<String>())
}

fn default_of(var: &Var) -> String {
    match var.default {
        DefaultValue::Value(value) => format!(" [default: {value}]"),
        DefaultValue::Computed(_) | DefaultValue::Absent => String::new(),
    }
}

fn args_of(matches: &ArgMatches) -> Args {
    let text = |name| matches.try_get_one::<OsString>(name).ok().flatten().cloned();
    Args {
        config: matches.get_one::<PathBuf>("config").cloned(),
        port: text("port"),
        bind: text("bind"),
        insecure_http: text("insecure-http"),
    }
}
