//! `ssh-mcp`: many MCP clients over HTTP.

use std::{io, process::ExitCode};

use ssh_mcp::{
    app::App,
    config::cli::{Binary, parse},
    mcp::server::Server,
    ssh::ids::Owner,
    transport::{self, Hangup, LOCAL, http, logging::Logs},
};

fn main() -> ExitCode {
    transport::keep_private();
    let settings = match parse(Binary::Http) {
        Ok(settings) => settings,
        Err(stop) => return stop.report(&mut io::stdout(), &mut io::stderr()),
    };
    let (filter, secrets) = (settings.log_filter.clone(), settings.secrets.live.clone());
    transport::run(&filter, Logs::Split, Hangup::Stops, &secrets, |stop, core| async move {
        let listening = http::Server::bind(&settings.http).await?;
        let app = App::new(settings);
        app.listens_on(listening.local_addr().port());
        let server = Server::new(app.clone(), Owner::new(LOCAL)).working_on(core);
        listening.run(server, app, stop).await
    })
}
