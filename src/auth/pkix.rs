//! The outer structures of keys in DER: `SubjectPublicKeyInfo` (RFC 5280, section 4.1) and `PrivateKeyInfo` (RFC 5208,
//! section 5).

use ring::error::Unspecified;
use ring::io::der::{self, Tag};
use rustls::pki_types::{AlgorithmIdentifier, alg_id};
use untrusted::{Input, Reader};

/// The families of keys that sign tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Rsa,
    P256,
    P384,
    Ed25519,
}

const FAMILIES: [(Family, AlgorithmIdentifier); 4] = [
    (Family::Rsa, alg_id::RSA_ENCRYPTION),
    (Family::P256, alg_id::ECDSA_P256),
    (Family::P384, alg_id::ECDSA_P384),
    (Family::Ed25519, alg_id::ED25519),
];

/// A key without its outer structure: for RSA in PKCS #1 (RFC 8017, appendix A.1), for a public curve point its bytes.
#[derive(Debug)]
pub(super) struct Key<'a> {
    pub(super) family: Family,
    pub(super) bytes: &'a [u8],
}

/// Returns the public key, if its family is known.
pub(super) fn public_key(der: &[u8]) -> Option<Key<'_>> {
    sequence(der, |info| {
        let family = family(info)?;
        let bytes = der::bit_string_with_no_unused_bits(info)?.as_slice_less_safe();
        Ok(Key { family, bytes })
    })
}

/// Returns the private key, if its family is known.
pub(super) fn private_key(der: &[u8]) -> Option<Key<'_>> {
    sequence(der, |info| {
        der::small_nonnegative_integer(info)?; // the version
        let family = family(info)?;
        let bytes = der::expect_tag_and_get_value(info, Tag::OctetString)?.as_slice_less_safe();
        info.skip_to_end(); // attributes, and the public key
        Ok(Key { family, bytes })
    })
}

fn family(info: &mut Reader<'_>) -> Result<Family, Unspecified> {
    let algorithm = der::expect_tag_and_get_value(info, Tag::Sequence)?.as_slice_less_safe();
    FAMILIES.iter().find(|(_, id)| id.as_ref() == algorithm).map(|(family, _)| *family).ok_or(Unspecified)
}

fn sequence<'a, T>(der: &'a [u8], read: impl FnOnce(&mut Reader<'a>) -> Result<T, Unspecified>) -> Option<T> {
    Input::from(der).read_all(Unspecified, |input| der::nested(input, Tag::Sequence, Unspecified, read)).ok()
}
