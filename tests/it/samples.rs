//! Values of the app's types, as a host and its commands would give them.

use std::{net::Ipv4Addr, time::Duration};

use chrono::{DateTime, Utc};
use ssh_mcp::{
    app::{CommandView, Connected, HostPage, HostRow, ResolvedRow},
    config::{AnswerSettings, Compression, ForwardSettings, Limits, Settings, Share, SpillSettings, SshSettings},
    ssh::{
        async_command::{CommandInfo, Status},
        client::{HostKeyInfo, Target, Trust},
        forward::ForwardInfo,
        ids::{CommandId, ForwardId, SessionId},
        output::{Form, Omitted, OutputView, Shown, StreamView},
        session::SessionInfo,
    },
};

const EVERYTHING: Share = Share { own: usize::MAX, total: usize::MAX };

pub(crate) fn settings() -> Settings {
    Settings {
        ssh: SshSettings {
            proxy: None,
            no_proxy: Vec::new(),
            host_key_policy: ssh_mcp::config::HostKeyPolicy::AcceptNew,
            connect_timeout: Duration::from_secs(30),
            command_timeout: Duration::from_secs(180),
            max_retries: 3,
            retry_delay: Duration::from_millis(1000),
            compression: Compression::Auto,
            inactivity_timeout: Duration::from_secs(300),
            reconnect: true,
            max_connections: 16,
            max_commands: 30,
            limits: Limits {
                commands: EVERYTHING,
                sessions: EVERYTHING,
                forwards: EVERYTHING,
                session_forwards: 50,
                calls: EVERYTHING,
                output_bytes: EVERYTHING,
            },
            forward: ForwardSettings::default(),
            agent_socket: None,
            home: None,
            key_roots: Vec::new(),
            known_hosts: None,
            config: Default::default(),
            legacy_hosts: Vec::new(),
            forward_agent_hosts: Default::default(),
            spill: SpillSettings { directory: None, command_bytes: 0, total_bytes: 0 },
        },
        answers: AnswerSettings { limit: Duration::from_secs(45), output_bytes: 16_000 },
        http: crate::http::settings(&[]),
        secrets: Default::default(),
        log_filter: "info".into(),
    }
}

pub(crate) fn target() -> Target {
    Target { host: "build.example.org".into(), port: 22, username: "deploy".into() }
}

pub(crate) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub(crate) fn forward() -> ForwardInfo {
    ForwardInfo {
        id: ForwardId::random(),
        local: (Ipv4Addr::LOCALHOST, 8080).into(),
        remote_host: "::1".into(),
        remote_port: 3000,
        active: true,
        is_shared: false,
    }
}

pub(crate) fn session() -> SessionInfo {
    SessionInfo {
        id: SessionId::random(),
        name: Some("build".into()),
        target: target(),
        hops: vec![target()],
        agent_id: Some("planner".into()),
        connected_at: at("2026-11-22T13:24:00Z"),
        last_health_check: Some(at("2026-11-22T13:25:00Z")),
        healthy: true,
        persistent: false,
        running_commands: 0,
        forwards: vec![forward()],
        retry_attempts: 0,
        compression_enabled: false,
        command_timeout: Duration::from_secs(180),
    }
}

pub(crate) fn connected() -> Connected {
    Connected {
        session: session(),
        reused: false,
        reconnected: false,
        reuse_refused: Some("dead"),
        auth_method: "publickey".into(),
        host_key: HostKeyInfo {
            algorithm: "ssh-ed25519".into(),
            fingerprint: "SHA256:abc".into(),
            trust: Trust::AcceptedNew,
            warnings: Vec::new(),
        },
        server_version: "SSH-2.0-OpenSSH_9.2p1".into(),
        other_sessions: vec![SessionId::random()],
        timeout: Duration::from_secs(30),
        resolved: vec![ResolvedRow {
            keyword: "hostname",
            value: "build.example.org".into(),
            place: Some(("/home/me/.ssh/config".into(), 3)),
        }],
        notices: vec!["timeout_secs was cut to 45".into()],
    }
}

pub(crate) fn hosts() -> HostPage {
    let host = HostRow {
        alias: "build".into(),
        target: target(),
        jump: vec!["bastion".into()],
        sessions: vec![SessionId::random()],
    };
    HostPage { hosts: vec![host], more: true }
}

/// A command that exited with `exit_status`.
pub(crate) fn completed(command: &str, exit_status: u32) -> CommandInfo {
    CommandInfo {
        id: CommandId::random(),
        session_id: SessionId::random(),
        target: target(),
        command: command.into(),
        started_at: at("2026-11-22T13:24:00.250Z"),
        ended_at: Some(at("2026-11-22T13:24:01Z")),
        duration: Duration::from_millis(750),
        timeout: Duration::from_secs(180),
        status: Status::Completed,
        exit_status: Some(exit_status),
        exit_signal: None,
        timed_out: false,
        remote_ended: None,
        detached: vec![],
        output_held: false,
        output_cut: false,
        reconnected: false,
        agent_refused: false,
        error: None,
    }
}

/// A command that still runs.
pub(crate) fn running(command: &str) -> CommandInfo {
    CommandInfo {
        ended_at: None,
        status: Status::Running,
        exit_status: None,
        duration: Duration::from_millis(44_900),
        ..completed(command, 0)
    }
}

pub(crate) fn stream(text: &str) -> StreamView {
    let bytes = text.len() as u64;
    StreamView {
        total_bytes: bytes,
        shown: Some(Shown { offset: 0, next_offset: bytes, omitted: None, truncated: false, text: text.into() }),
        lost: None,
    }
}

/// A stream of a million bytes, of which a few are shown.
pub(crate) fn long_stream() -> StreamView {
    StreamView {
        total_bytes: 1_000_000,
        shown: Some(Shown {
            offset: 0,
            next_offset: 1_000_000,
            omitted: Some(Omitted { from: 4000, bytes: 984_000 }),
            truncated: true,
            text: "x".repeat(16_000),
        }),
        lost: None,
    }
}

pub(crate) fn view(info: CommandInfo, stdout: StreamView, stderr: StreamView) -> CommandView {
    CommandView {
        info,
        output: OutputView { stdout, stderr, form: Form::Text },
        wait_limited_to: Some(Duration::from_secs(45)),
        until: None,
    }
}
