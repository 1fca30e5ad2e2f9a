//! The file that says who may ask, and how: the web configuration that the exporters of Prometheus have.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;

use super::tls;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is not what is expected.
    #[error("{0}")]
    Form(String),
    /// A file that it names cannot be used.
    #[error("{}: {}", .0.display(), .1)]
    File(PathBuf, String),
    /// A user's password is no bcrypt hash.
    #[error("basic_auth_users: the password of '{0}' is no bcrypt hash (htpasswd -nBC 10 NAME makes one)")]
    Password(String),
    /// The TLS library refuses it.
    #[error("tls_server_config: {0}")]
    Tls(String),
}

/// Who may ask.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// TLS, if there is any.
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    /// Whether clients must show a certificate.
    pub(super) asks_for_certificates: bool,
    /// bcrypt hashes by name; without any, everyone may ask.
    pub(super) users: HashMap<String, String>,
}

/// The file. What is not listed here is an error: a protection that is asked for is there, or the start fails.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    tls_server_config: Option<Tls>,
    basic_auth_users: HashMap<String, String>,
}

/// TLS.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) cert_file: PathBuf,
    pub(super) key_file: PathBuf,
    #[serde(default)]
    pub(super) client_auth_type: ClientAuth,
    pub(super) client_ca_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) min_version: Version,
    #[serde(default = "Version::last")]
    pub(super) max_version: Version,
}

/// What is asked of clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(super) enum ClientAuth {
    /// Nothing.
    #[default]
    #[serde(alias = "")]
    NoClientCert,
    /// A certificate is checked, if there is one.
    VerifyClientCertIfGiven,
    /// A certificate of this authority.
    RequireAndVerifyClientCert,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) enum Version {
    #[default]
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}

impl Version {
    fn last() -> Self {
        Self::Tls13
    }
}

/// Reads a file and those that it names, which may be relative to it.
pub(super) fn read(path: &Path) -> Result<Guard, ConfigError> {
    let text = fs::read_to_string(path)?;
    let file = parse(&text)?;
    for (name, hash) in &file.basic_auth_users {
        if hash.parse::<bcrypt::HashParts>().is_err() {
            return Err(ConfigError::Password(name.clone()));
        }
    }
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let asks_for_certificates = file
        .tls_server_config
        .as_ref()
        .is_some_and(|tls| tls.client_auth_type == ClientAuth::RequireAndVerifyClientCert);
    let tls = file.tls_server_config.map(|tls| tls::config(&tls, folder)).transpose()?.map(Arc::new);
    Ok(Guard { tls, asks_for_certificates, users: file.basic_auth_users })
}

fn parse(text: &str) -> Result<File, ConfigError> {
    let only_comments = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    if only_comments {
        return Ok(File::default());
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let text = error.to_string();
        ConfigError::Form(text.lines().next().unwrap_or_default().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_exporters_take_is_taken() {
        let file = parse(
            "tls_server_config:\n  cert_file: a.pem\n  key_file: b.pem\n  client_auth_type: RequireAndVerifyClientCert\n  \
             client_ca_file: c.pem\n  min_version: TLS13\nbasic_auth_users:\n  alice: $2y$10$abc\n",
        )
        .expect("valid");
        let tls = file.tls_server_config.expect("it is there");
        assert_eq!((tls.client_auth_type, tls.min_version), (ClientAuth::RequireAndVerifyClientCert, Version::Tls13));
        assert_eq!(file.basic_auth_users["alice"], "$2y$10$abc");
        assert!(parse("").expect("valid").tls_server_config.is_none());
        assert!(parse("# nothing\n\n").expect("valid").basic_auth_users.is_empty());
    }

    #[test]
    fn the_example_that_packages_bring_is_one() {
        let file = parse(include_str!("../../../deploy/config/web.yml")).expect("valid");
        assert_eq!(file.tls_server_config.expect("it is there").min_version, Version::Tls13);
    }

    #[test]
    fn a_protection_that_is_not_understood_is_an_error() {
        for (text, says) in [
            ("tls_server_config:\n  cert_file: a\n  key_file: b\n  cipher_suites: [X]\n", "cipher_suites"),
            ("basic_auth_user:\n  a: b\n", "basic_auth_user"),
            ("tls_server_config:\n  cert_file: a\n", "key_file"),
            ("tls_server_config:\n  cert_file: a\n  key_file: b\n  min_version: TLS10\n", "TLS10"),
            (
                "tls_server_config:\n  cert_file: a\n  key_file: b\n  client_auth_type: RequestClientCert\n",
                "RequestClientCert",
            ),
            ("- a\n- b\n", ""),
            ("a: [", ""),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(says) && !error.is_empty() && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn a_password_in_clear_is_refused() {
        let path = std::env::temp_dir().join(format!("listentop-web-config-{}", std::process::id()));
        fs::write(&path, "basic_auth_users:\n  alice: secret\n").expect("a file");
        let error = read(&path).expect_err("no hash").to_string();
        fs::remove_file(&path).expect("it is ours");
        assert!(error.contains("the password of 'alice' is no bcrypt hash"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
