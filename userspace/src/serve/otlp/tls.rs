//! TLS to a collector.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, Error, RootCertStore,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
};

use super::{
    config::{OtlpError, Protocol},
    surroundings::Surroundings,
};
use crate::serve::tls::certificates;

/// The authorities of the file, or else those of the machine; and our certificate, if we have one.
pub(super) fn config(
    authorities: Option<&Path>,
    around: Surroundings<'_>,
    protocol: Protocol,
) -> Result<Arc<ClientConfig>, OtlpError> {
    let refused = |error: Error| OtlpError::Tls(error.to_string());
    let file = authorities.map(Path::to_owned).or_else(|| around.path("CERTIFICATE"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(refused)?;
    let builder = builder.with_root_certificates(roots(file.as_deref())?);
    let pair = (around.path("CLIENT_CERTIFICATE"), around.path("CLIENT_KEY"));
    let mut config = match pair {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let chain = certificates(&certificate).map_err(|error| OtlpError::Tls(error.to_string()))?;
            let key = PrivateKeyDer::from_pem_file(&key).map_err(|error| OtlpError::File(key, error.to_string()))?;
            builder.with_client_auth_cert(chain, key).map_err(refused)?
        }
        _ => return Err(OtlpError::Tls("a client has both a certificate and a key".to_owned())),
    };
    config.alpn_protocols = match protocol {
        Protocol::Grpc => vec![b"h2".to_vec()],
        Protocol::Http => vec![b"http/1.1".to_vec()],
    };
    Ok(Arc::new(config))
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, OtlpError> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = file {
        for certificate in certificates(file).map_err(|error| OtlpError::Tls(error.to_string()))? {
            roots.add(certificate).map_err(|error| OtlpError::File(file.to_owned(), error.to_string()))?;
        }
        return Ok(roots);
    }
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err(OtlpError::Tls(
            "this machine has no list of authorities: --otlp-ca-file FILE names one".to_owned(),
        ));
    }
    Ok(roots)
}
