//! TLS, as the configuration asks for it.

use std::{path::Path, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};

use super::web_config::{ClientAuth, ConfigError, Tls, Version};

/// Reads the files, which may be relative to `folder`.
pub(super) fn config(tls: &Tls, folder: &Path) -> Result<ServerConfig, ConfigError> {
    let refused = |error: rustls::Error| ConfigError::Tls(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificates = certificates(&folder.join(&tls.cert_file))?;
    let key_file = folder.join(&tls.key_file);
    let key = PrivateKeyDer::from_pem_file(&key_file)
        .map_err(|error| ConfigError::File(key_file.clone(), error.to_string()))?;
    let all: [(Version, &'static SupportedProtocolVersion); 2] = [(Version::Tls12, &TLS12), (Version::Tls13, &TLS13)];
    let wanted: Vec<_> =
        all.iter().filter(|(name, _)| (tls.min_version..=tls.max_version).contains(name)).map(|(_, it)| *it).collect();
    if wanted.is_empty() {
        return Err(ConfigError::Tls("min_version is above max_version".to_owned()));
    }
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&wanted);
    let builder = builder.map_err(refused)?;
    let authority = tls.client_ca_file.as_ref().map(|file| folder.join(file));
    let builder = match (tls.client_auth_type, authority) {
        (ClientAuth::NoClientCert, None) => builder.with_no_client_auth(),
        (ClientAuth::NoClientCert, Some(_)) => {
            return Err(ConfigError::Tls("client_ca_file without a client_auth_type that uses it".to_owned()));
        }
        (_, None) => return Err(ConfigError::Tls("this client_auth_type needs a client_ca_file".to_owned())),
        (wanted, Some(authority)) => {
            let mut roots = RootCertStore::empty();
            for certificate in self::certificates(&authority)? {
                roots.add(certificate).map_err(refused)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match wanted {
                ClientAuth::VerifyClientCertIfGiven => verifier.allow_unauthenticated(),
                ClientAuth::RequireAndVerifyClientCert | ClientAuth::NoClientCert => verifier,
            };
            let verifier = verifier.build().map_err(|error| ConfigError::Tls(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(certificates, key).map_err(refused)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The certificates of a file, one at least.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let refused = |error: rustls::pki_types::pem::Error| ConfigError::File(path.to_owned(), error.to_string());
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(refused)?.collect();
    let found = found.map_err(refused)?;
    if found.is_empty() {
        return Err(ConfigError::File(path.to_owned(), "it has no certificate".to_owned()));
    }
    Ok(found)
}
