//! HTTPS: certificate and key from PEM to an acceptor. TLS 1.2 and 1.3, with ring.

use std::sync::Arc;

use secrecy::ExposeSecret;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    },
};

use crate::config::TlsSettings;

/// Why there is no HTTPS. No text holds a byte of the key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate file is not PEM.
    #[error("MCP_TLS_CERT holds no readable PEM certificate: {0}")]
    Certificate(pem::Error),
    /// The key file is not PEM.
    #[error("MCP_TLS_KEY holds no readable PEM private key")]
    Key,
    /// The key does not belong to the certificate, or is of no kind that is known.
    #[error("MCP_TLS_CERT and MCP_TLS_KEY cannot be used together: {0}")]
    Pair(rustls::Error),
}

/// What handshakes with the clients of a port.
pub(super) fn acceptor(settings: &TlsSettings) -> Result<TlsAcceptor, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&settings.certificate)
        .collect::<Result<_, _>>()
        .map_err(TlsError::Certificate)?;
    if chain.is_empty() {
        return Err(TlsError::Certificate(pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_slice(settings.key.expose_secret()).map_err(|_| TlsError::Key)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|versions| versions.with_no_client_auth().with_single_cert(chain, key))
        .map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
