//! Whether one connection to a jump host will do for two sessions.

use super::{
    super::{ConnectSpec, auth::Credentials},
    Route,
};

/// Whether both mean the same server with the same login, by the same way and on the same terms.
pub(super) fn server(a: &ConnectSpec, b: &ConnectSpec) -> bool {
    // Every field is named, so that a new one cannot be forgotten here.
    let ConnectSpec {
        target,
        route,
        credentials,
        compression,
        known_hosts,
        // The host key was approved, and is the same for everybody.
        approved_key: _,
        // These are of a session.
        retry: _,
        timeout: _,
        reconnect: _,
        max_connections: _,
    } = a;
    *target == b.target
        && *compression == b.compression
        && *known_hosts == b.known_hosts
        && login(credentials, &b.credentials)
        && same_route(route, &b.route)
}

fn login(a: &Credentials, b: &Credentials) -> bool {
    match (a, b) {
        (Credentials::Password(a), Credentials::Password(b)) => a.expose() == b.expose(),
        (Credentials::Key(a), Credentials::Key(b)) => a == b,
        (Credentials::Agent(a), Credentials::Agent(b)) => a == b,
        _ => false,
    }
}

fn same_route(a: &Route, b: &Route) -> bool {
    match (a, b) {
        (Route::Direct(a), Route::Direct(b)) => a == b,
        (Route::Jump(a), Route::Jump(b)) => server(&a.server, &b.server),
        (Route::Command(a), Route::Command(b)) => a == b,
        (Route::Proxy(a, dial_a), Route::Proxy(b, dial_b)) => a.is_same(b) && dial_a == dial_b,
        _ => false,
    }
}
