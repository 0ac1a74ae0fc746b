//! `ssh-mcp-stdio`: one MCP client on stdin and stdout.

use std::{io, process::ExitCode};

use ssh_mcp::{
    app::App,
    config::cli::{Binary, parse},
    mcp::server::Server,
    ssh::ids::Owner,
    transport::{self, Hangup, LOCAL, logging::Logs, stdio},
};

fn main() -> ExitCode {
    transport::keep_private();
    let settings = match parse(Binary::Stdio) {
        Ok(settings) => settings,
        Err(stop) => return stop.report(&mut io::stdout(), &mut io::stderr()),
    };
    let (filter, secrets) = (settings.log_filter.clone(), settings.secrets.live.clone());
    transport::run(&filter, Logs::Stderr, Hangup::Passes, &secrets, |stop, core| async move {
        let app = App::new(settings);
        let server = Server::new(app.clone(), Owner::new(LOCAL)).working_on(core);
        stdio::serve(server, app, stop).await
    })
}
