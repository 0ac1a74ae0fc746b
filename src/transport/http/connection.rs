//! Connections: accepted, counted, served one by one, ended.

use std::{
    convert::Infallible,
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::{StatusCode, uri::Scheme};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use poem::{Endpoint, Request, Response, endpoint::BoxEndpoint};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{
    super::streamable::plain,
    caller::Sockets,
    heads::Heads,
    listener::{Ends, Listener, Stream},
};

/// Pause after a failed accept. Without one, a process that has no file descriptor left spins.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often a listener that cannot accept says so: it may go on for long.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The longest head of a request: line and headers.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The most headers of a request.
const MAX_HEADERS: usize = 100;

/// Connections above the limit that are told so at the same time. Any other is closed without a word.
const MAX_REFUSALS: usize = 64;

/// How long a connection above the limit may take to read why it is closed.
const REFUSAL: Duration = Duration::from_secs(1);

/// What a connection above the limit reads.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 54\r\nretry-after: 1\r\nconnection: close\r\n\r\n\
    too many connections (MCP_MAX_CONNECTIONS): try later\n";

/// Everything that connections share.
pub(super) struct Connections {
    endpoint: BoxEndpoint<'static, Response>,
    tls: Option<TlsAcceptor>,
    /// Where callers are looked up; none where a token tells who they are.
    sockets: Option<Arc<Sockets>>,
    header_timeout: Duration,
    /// One permit for each connection.
    slots: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Accept nothing more, and close what is idle.
    closing: CancellationToken,
    /// Close everything.
    cut: CancellationToken,
}

/// The limits of connections.
pub(super) struct Limits {
    pub(super) connections: usize,
    pub(super) header_timeout: Duration,
}

impl Connections {
    pub(super) fn new(
        endpoint: BoxEndpoint<'static, Response>,
        tls: Option<TlsAcceptor>,
        tokens: bool,
        limits: &Limits,
        closing: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            endpoint,
            tls,
            sockets: (!tokens).then(Arc::default),
            header_timeout: limits.header_timeout,
            slots: Arc::new(Semaphore::new(limits.connections)),
            refusals: Arc::new(Semaphore::new(MAX_REFUSALS)),
            tasks: TaskTracker::new(),
            closing,
            cut: CancellationToken::new(),
        })
    }

    /// Accepts connections until the server closes.
    pub(super) fn listen(self: &Arc<Self>, listener: Listener) {
        let this = self.clone();
        self.tasks.spawn(async move {
            let mut told = None;
            while let Some(stream) = this.closing.run_until_cancelled(next(&listener, &mut told)).await {
                match this.slots.clone().try_acquire_owned() {
                    Ok(slot) => drop(this.tasks.spawn(this.clone().serve(stream, slot))),
                    Err(_) => this.refuse(stream),
                }
            }
        });
    }

    /// Waits until every connection is closed; after `bound` closes those that are left.
    pub(super) async fn end(&self, bound: Duration) {
        self.tasks.close();
        if timeout(bound, self.tasks.wait()).await.is_err() {
            self.cut.cancel();
            self.tasks.wait().await;
        }
    }

    async fn serve(self: Arc<Self>, stream: Stream, _slot: OwnedSemaphorePermit) {
        let served = self.cut.run_until_cancelled(self.converse(stream)).await;
        if let Some(Err(error)) = served {
            // A client that is gone, that is too slow, or that speaks no HTTP: its own business.
            debug!(%error, "a connection ended early");
        }
    }

    async fn converse(&self, stream: Stream) -> io::Result<()> {
        match stream {
            Stream::Tcp(stream, remote) => {
                // Nobody is looked up for a connection that says nothing: after a shortage many wait that are gone.
                if timeout(self.header_timeout, stream.peek(&mut [0])).await?? == 0 {
                    return Ok(());
                }
                let ends = Ends::of_tcp(&stream, remote, self.sockets.as_ref()).await?;
                let Some(tls) = &self.tls else {
                    return self.http(stream, Scheme::HTTP, ends).await;
                };
                let stream = timeout(self.header_timeout, tls.accept(stream)).await??;
                self.http(stream, Scheme::HTTPS, ends).await
            }
            #[cfg(unix)]
            Stream::Unix(stream) => {
                let ends = Ends::of_unix(&stream);
                self.http(stream, Scheme::HTTP, ends).await
            }
        }
    }

    async fn http<I>(&self, stream: I, scheme: Scheme, ends: Ends) -> io::Result<()>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (stream, length_twice) = Heads::of(stream);
        let service = service_fn(|request: http::Request<Incoming>| {
            let (ends, smuggled) = (ends.clone(), length_twice.load(Ordering::Relaxed));
            let mut request = Request::from((request, ends.local, ends.remote, scheme.clone()));
            request.extensions_mut().insert(ends.caller);
            async move {
                let response = if smuggled { two_lengths() } else { self.endpoint.get_response(request).await };
                Ok::<http::Response<_>, Infallible>(response.into())
            }
        });
        let mut http = http1::Builder::new();
        // Starts with the connection and again after every answer, so it bounds idle connections too.
        http.timer(TokioTimer::new()).header_read_timeout(self.header_timeout);
        http.max_headers(MAX_HEADERS).max_header_size(MAX_HEAD_BYTES);
        let connection = http.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            result = connection.as_mut() => return result.map_err(io::Error::other),
            () = self.closing.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await.map_err(io::Error::other)
    }

    /// Tells a connection above the limit that it is one, and closes it.
    fn refuse(&self, stream: Stream) {
        let Ok(permit) = self.refusals.clone().try_acquire_owned() else {
            return;
        };
        let plain = self.tls.is_none();
        self.tasks.spawn(async move {
            let _permit = permit;
            let told = async {
                match stream {
                    // Without a handshake nothing can be said; with one, it would not be cheap.
                    Stream::Tcp(stream, _) if plain => turn_away(stream).await,
                    #[cfg(unix)]
                    Stream::Unix(stream) => turn_away(stream).await,
                    Stream::Tcp(..) => Ok(()),
                }
            };
            let _ = timeout(REFUSAL, told).await;
        });
    }
}

fn two_lengths() -> Response {
    plain(StatusCode::BAD_REQUEST, "a request has Content-Length or Transfer-Encoding, not both")
}

/// The next connection of a listener.
async fn next(listener: &Listener, told: &mut Option<Instant>) -> Stream {
    loop {
        match listener.accept().await {
            Ok(stream) => return stream,
            Err(error) => {
                if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                    *told = Some(Instant::now());
                    warn!(%error, "cannot accept a connection");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A socket that is closed with bytes unread resets the connection, and the client may never see the answer.
async fn turn_away<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    stream.write_all(FULL).await?;
    stream.shutdown().await?;
    let mut unread = [0; 4096];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}
