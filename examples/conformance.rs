//! The fixtures of the official conformance suite, served by this crate's own HTTP stack.
//!
//! ```text
//! cargo run --example conformance -- --port 8000
//! ```
//!
//! The suite calls tools, reads resources and gets prompts by fixed names, which no server has by itself. This one has
//! them, behind the very routes, guard, sessions and streams of `ssh-mcp`: it differs from that program in its handler
//! alone. `tests/conformance/run.sh` runs the suite against both.

// Beside this file they would be taken for other examples.
#[path = "conformance/fixtures.rs"]
mod fixtures;
#[path = "conformance/rounds.rs"]
mod rounds;
#[path = "conformance/server.rs"]
mod server;
#[path = "conformance/tools.rs"]
mod tools;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use fixtures::Fixtures;
use server::Suite;
use ssh_mcp::{
    app::App,
    config::cli::{Binary, parse},
    transport::{self, Hangup, http, logging::Logs},
};

fn main() -> ExitCode {
    transport::keep_private();
    let settings = match parse(Binary::Http) {
        Ok(settings) => settings,
        Err(stop) => return stop.report(&mut io::stdout(), &mut io::stderr()),
    };
    let suite = match Fixtures::read() {
        Ok(fixtures) => Suite::new(fixtures),
        Err(error) => {
            let _ = writeln!(io::stderr(), "conformance/fixtures.json: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (filter, secrets) = (settings.log_filter.clone(), settings.secrets.live.clone());
    transport::run(&filter, Logs::Split, Hangup::Stops, &secrets, |stop, _core| async move {
        let listening = http::Server::bind(&settings.http).await?;
        listening.run(suite, App::new(settings), stop).await
    })
}
