//! One certificate authority: its files, and the certificates that it signs.

use super::files;
use crate::net::tls::{Credentials, TlsError};
use anyhow::{Context, Result, bail};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls_pki_types::pem::PemObject;
use std::path::Path;
use std::time::{Duration, SystemTime};
use x509_parser::prelude::FromDer;

/// Authorities outlive their machines.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Clocks of other machines may be behind by this much.
const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// What a leaf certificate is for.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// `sans`: DNS names and addresses.
    Serving {
        common_name: String,
        sans: Vec<String>,
    },
    Client {
        common_name: String,
        organizations: Vec<String>,
    },
}

/// A parsed request, its signature checked.
pub struct SigningRequest(CertificateSigningRequestParams);

/// Larger requests are refused unparsed.
const MAX_REQUEST_BYTES: usize = 64 << 10;

impl SigningRequest {
    pub fn parse(pem: &str) -> Result<Self> {
        if pem.len() > MAX_REQUEST_BYTES {
            bail!("certificate request: larger than {MAX_REQUEST_BYTES} bytes");
        }
        let block = pem_block(pem)?;
        let (_, parsed) = x509_parser::certification_request::X509CertificationRequest::from_der(&block)
            .context("certificate request: not a PKCS #10 request")?;
        // rcgen keeps one value per attribute and panics on an empty one.
        let mut seen = Vec::new();
        for names in parsed.certification_request_info.subject.iter() {
            let [name] = names.iter().collect::<Vec<_>>()[..] else {
                bail!("certificate request: a subject name with several values or none");
            };
            let kind = name.attr_type().to_id_string();
            if seen.contains(&kind) {
                bail!("certificate request: the subject has attribute {kind} twice");
            }
            seen.push(kind);
        }
        let params = CertificateSigningRequestParams::from_der(&block.into()).context("certificate request")?;
        Ok(Self(params))
    }
}

fn pem_block(pem: &str) -> Result<Vec<u8>> {
    let request = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| anyhow::anyhow!("certificate request: {error}"))?;
    Ok(request.as_ref().to_vec())
}

/// A CA with its key.
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// `<file>.key` and `<file>.crt`. The key is written first: a certificate that is missing beside
    /// it (a power cut in between) is made again, a missing key is an error.
    pub fn open_or_create(directory: &Path, file: &str, name: &str, now: SystemTime) -> Result<Self> {
        let certificate_path = directory.join(format!("{file}.crt"));
        let key_path = directory.join(format!("{file}.key"));
        let certificate = files::read(&certificate_path)?;
        let key = match (files::read(&key_path)?, &certificate) {
            (Some(text), _) => KeyPair::from_pem(&text)
                .with_context(|| format!("{}: not a private key: restore it from a snapshot", key_path.display()))?,
            (None, Some(_)) => bail!(
                "{} is there but {} is missing: restore it from a snapshot, or remove both to start with a new CA",
                certificate_path.display(),
                key_path.display()
            ),
            (None, None) => {
                let key = KeyPair::generate()?;
                files::write(&key_path, &key.serialize_pem())?;
                key
            }
        };
        let certificate_pem = match certificate {
            Some(text) => {
                super::check_pair(&text, &key).with_context(|| certificate_path.display().to_string())?;
                text
            }
            None => {
                let text = authority_params(name, now).self_signed(&key)?.pem();
                files::write(&certificate_path, &text)?;
                text
            }
        };
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)
            .with_context(|| format!("{}: not a CA certificate", certificate_path.display()))?;
        Ok(Self { certificate_pem, issuer })
    }

    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// A certificate with a fresh key.
    pub fn issue(&self, now: SystemTime, purpose: &Purpose) -> Result<Credentials, TlsError> {
        let mut params = leaf_params(purpose)?;
        params.not_before = SystemTime::UNIX_EPOCH.into();
        params.not_after = (now + super::LEAF_LIFETIME).into();
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Credentials { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// Sign a request; with `purpose` in place of what it asks for. PEM.
    pub fn sign(
        &self,
        request: &SigningRequest,
        now: SystemTime,
        lifetime: Duration,
        purpose: Option<&Purpose>,
    ) -> Result<String> {
        let mut request = request.0.clone();
        match purpose {
            Some(purpose) => request.params = leaf_params(purpose)?,
            None => {
                request.params.serial_number = Some(serial_number());
                request.params.use_authority_key_identifier_extension = true;
            }
        }
        // Never an authority, whatever the request says.
        request.params.is_ca = IsCa::ExplicitNoCa;
        request.params.not_before = (now - BACKDATE).into();
        request.params.not_after = (now + lifetime).into();
        Ok(request.signed_by(&self.issuer).context("sign certificate request")?.pem())
    }
}

fn authority_params(name: &str, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // The time tells a new authority from the one before it.
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    params.distinguished_name.push(DnType::CommonName, format!("{name}@{since}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
    params.serial_number = Some(serial_number());
    params.not_before = SystemTime::UNIX_EPOCH.into();
    params.not_after = (now + AUTHORITY_LIFETIME).into();
    params
}

fn leaf_params(purpose: &Purpose) -> Result<CertificateParams, TlsError> {
    let (common_name, organizations, sans, usage) = match purpose {
        Purpose::Serving { common_name, sans } => {
            (common_name, &[][..], sans.clone(), ExtendedKeyUsagePurpose::ServerAuth)
        }
        Purpose::Client { common_name, organizations } => {
            (common_name, organizations.as_slice(), Vec::new(), ExtendedKeyUsagePurpose::ClientAuth)
        }
    };
    let mut params = CertificateParams::new(sans).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name.as_str());
    match organizations {
        [] => {}
        [organization] => params.distinguished_name.push(DnType::OrganizationName, organization.as_str()),
        _ => return Err(TlsError::Certificate(format!("{common_name}: more than one organization"))),
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![usage];
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial_number());
    Ok(params)
}

fn failed(error: rcgen::Error) -> TlsError {
    TlsError::Certificate(error.to_string())
}

fn serial_number() -> SerialNumber {
    // Positive, as RFC 5280 wants it.
    SerialNumber::from_slice(&(rand::random::<u128>() >> 1).to_be_bytes())
}
