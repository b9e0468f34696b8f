//! The certificates of a cluster: one authority, and what it issues to each program.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Making a key or a certificate failed.
    #[error("making the certificate {name:?} failed: {source}")]
    Issue {
        /// Name of the file, without extension.
        name: String,
        /// What the library said.
        source: rcgen::Error,
    },
    /// A file could not be written.
    #[error("writing {path:?} failed: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Who a certificate speaks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// The user, in Kubernetes' words.
    pub(crate) common_name: &'a str,
    /// The group.
    pub(crate) organization: Option<&'a str>,
}

/// Names and addresses that a server answers to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Names<'a> {
    pub(crate) dns: &'a [&'a str],
    pub(crate) ips: &'a [IpAddr],
}

/// The authority of one cluster and the folder of its files.
#[derive(Debug)]
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes the authority (`ca.crt`, `ca.key`) and the key pair of service accounts (`sa.key`, `sa.pub`).
    pub(crate) fn create(folder: PathBuf) -> Result<Authority, Error> {
        std::fs::create_dir_all(&folder).map_err(|source| Error::Write {
            path: folder.clone(),
            source,
        })?;
        let issue = |name: &str| {
            let name = name.to_owned();
            move |source| Error::Issue { name, source }
        };
        let key = KeyPair::generate().map_err(issue("ca"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished(Subject {
            common_name: "devcluster",
            organization: None,
        });
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let certificate = params.self_signed(&key).map_err(issue("ca"))?;
        let accounts = KeyPair::generate().map_err(issue("sa"))?;
        write(&folder.join("ca.crt"), &certificate.pem())?;
        write(&folder.join("ca.key"), &key.serialize_pem())?;
        write(&folder.join("sa.key"), &accounts.serialize_pem())?;
        write(&folder.join("sa.pub"), &accounts.public_key_pem())?;
        Ok(Authority {
            folder,
            issuer: Issuer::new(params, key),
        })
    }

    /// Writes `name.crt` and `name.key` for a client, and for a server when there are names.
    pub(crate) fn issue(&self, name: &str, subject: Subject<'_>, names: Names<'_>) -> Result<(), Error> {
        let issue = |source| Error::Issue {
            name: name.to_owned(),
            source,
        };
        let dns: Vec<String> = names.dns.iter().map(|dns| (*dns).to_owned()).collect();
        let mut params = CertificateParams::new(dns).map_err(issue)?;
        params
            .subject_alt_names
            .extend(names.ips.iter().map(|ip| SanType::IpAddress(*ip)));
        params.distinguished_name = distinguished(subject);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(issue)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(issue)?;
        write(&self.certificate(name), &certificate.pem())?;
        write(&self.key(name), &key.serialize_pem())
    }

    /// The certificate of `name`; `ca` is the authority's own.
    pub(crate) fn certificate(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.crt"))
    }

    /// The private key of `name`; `sa` signs the tokens of service accounts.
    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.key"))
    }

    /// What checks the tokens of service accounts.
    pub(crate) fn account_public_key(&self) -> PathBuf {
        self.folder.join("sa.pub")
    }
}

fn distinguished(subject: Subject<'_>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = subject.organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, subject.common_name);
    name
}

fn write(path: &Path, content: &str) -> Result<(), Error> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(|source| Error::Write {
            path: path.to_owned(),
            source,
        })
}
