//! Whether one connection to a jump host will do for two sessions.

use super::{super::ConnectSpec, Route};

/// Whether both mean the same server with the same login, by the same way and on the same terms.
pub(super) fn server(a: &ConnectSpec, b: &ConnectSpec) -> bool {
    // Every field is named, so that a new one cannot be forgotten here.
    let ConnectSpec {
        target,
        route,
        credentials,
        compression,
        algorithms,
        known_hosts,
        host_key_alias,
        // No command runs on a jump host, and none can use an agent there.
        environment: _,
        forward_agent: _,
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
        && *algorithms == b.algorithms
        && *known_hosts == b.known_hosts
        && *host_key_alias == b.host_key_alias
        && credentials.is_same(&b.credentials)
        && same_route(route, &b.route)
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
