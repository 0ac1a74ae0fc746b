//! A throw-away SSH host that asks for a password and then for a one-time code, to try what a client makes of it.
//!
//! ```text
//! cargo run --example one_time_code
//! ```
//!
//! It prints one line of JSON with its address, the password for `ssh_connect` and the code for the person, and serves
//! until it is ended. `tests/clients/run.sh` lets the official SDKs log in here.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

#[expect(dead_code, reason = "the tests use the rest of it")]
#[path = "../tests/it/support/embedded_host.rs"]
mod embedded_host;

use std::io;

use embedded_host::{
    Options,
    factors::{Ask, Factors},
};
use russh::MethodKind;
use serde_json::json;
use uuid::Uuid;

#[tokio::main]
async fn main() -> io::Result<()> {
    let random = Uuid::new_v4();
    let (password, code) = (random.simple().to_string(), format!("{:06}", random.as_u128() % 1_000_000));
    let rounds = vec![vec![Ask::new("Password: ", &password)], vec![Ask::new("Verification code: ", &code)]];
    let factors = Factors { chain: vec![MethodKind::KeyboardInteractive], rounds, ..Factors::default() };
    let host = Options::default().factors(factors).start().await?;
    let address = format!("someone@127.0.0.1:{}", host.port());
    println!("{}", json!({"address": address, "password": password, "code": code}));
    tokio::signal::ctrl_c().await
}
