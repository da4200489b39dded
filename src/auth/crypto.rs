//! The cryptography of tokens: a provider for `jsonwebtoken` on top of `ring`.

use std::sync::Once;

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING,
    ED25519, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use signature::{Signer, Verifier};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |&algorithm, key| {
        let key = check_family(algorithm, key.family()).map(|()| key.clone())?;
        Ok(Box::new(KeyFor { algorithm, key }))
    },
    verifier_factory: |&algorithm, key| {
        let key = check_family(algorithm, key.family()).map(|()| key.clone())?;
        Ok(Box::new(KeyFor { algorithm, key }))
    },
    // Only needed to generate key sets.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Installs the provider, unless the application installed its own.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| _ = PROVIDER.install_default());
}

/// A key is never used for an algorithm of another family.
fn check_family(algorithm: Algorithm, family: AlgorithmFamily) -> Result<(), Error> {
    if algorithm.family() == family { Ok(()) } else { Err(ErrorKind::InvalidAlgorithm.into()) }
}

/// A key and the algorithm that it is used for.
struct KeyFor<K> {
    algorithm: Algorithm,
    key: K,
}

fn hmac_of(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::HS256 => Some(hmac::HMAC_SHA256),
        Algorithm::HS384 => Some(hmac::HMAC_SHA384),
        Algorithm::HS512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

fn rsa_of(algorithm: Algorithm) -> Option<(&'static RsaParameters, &'static dyn RsaEncoding)> {
    match algorithm {
        Algorithm::RS256 => Some((&RSA_PKCS1_2048_8192_SHA256, &RSA_PKCS1_SHA256)),
        Algorithm::RS384 => Some((&RSA_PKCS1_2048_8192_SHA384, &RSA_PKCS1_SHA384)),
        Algorithm::RS512 => Some((&RSA_PKCS1_2048_8192_SHA512, &RSA_PKCS1_SHA512)),
        _ => None,
    }
}

impl Verifier<Vec<u8>> for KeyFor<DecodingKey> {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let is_good = if let DecodingKeyKind::RsaModulusExponent { n, e } = self.key.kind() {
            let (parameters, _) = rsa_of(self.algorithm).ok_or_else(signature::Error::new)?;
            RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
        } else {
            let key = self.key.try_get_as_bytes().map_err(signature::Error::from_source)?;
            if let Some(algorithm) = hmac_of(self.algorithm) {
                hmac::verify(&hmac::Key::new(algorithm, key), message, signature).is_ok()
            } else {
                let algorithm: &'static dyn VerificationAlgorithm = match self.algorithm {
                    Algorithm::ES256 => &ECDSA_P256_SHA256_FIXED,
                    Algorithm::ES384 => &ECDSA_P384_SHA384_FIXED,
                    Algorithm::EdDSA => &ED25519,
                    other => rsa_of(other).ok_or_else(signature::Error::new)?.0,
                };
                UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
            }
        };
        if is_good { Ok(()) } else { Err(signature::Error::new()) }
    }
}

impl JwtVerifier for KeyFor<DecodingKey> {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Signer<Vec<u8>> for KeyFor<EncodingKey> {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        let (key, random) = (self.key.as_bytes(), SystemRandom::new());
        if let Some(algorithm) = hmac_of(self.algorithm) {
            return Ok(hmac::sign(&hmac::Key::new(algorithm, key), message).as_ref().to_vec());
        }
        let unusable = |_| signature::Error::new();
        match self.algorithm {
            Algorithm::ES256 | Algorithm::ES384 => {
                let is_256 = self.algorithm == Algorithm::ES256;
                let curve = if is_256 { &ECDSA_P256_SHA256_FIXED_SIGNING } else { &ECDSA_P384_SHA384_FIXED_SIGNING };
                let key = EcdsaKeyPair::from_pkcs8(curve, key, &random).map_err(unusable)?;
                Ok(key.sign(&random, message).map_err(|_| signature::Error::new())?.as_ref().to_vec())
            }
            Algorithm::EdDSA => {
                Ok(Ed25519KeyPair::from_pkcs8_maybe_unchecked(key).map_err(unusable)?.sign(message).as_ref().to_vec())
            }
            other => {
                let (_, padding) = rsa_of(other).ok_or_else(signature::Error::new)?;
                let key = RsaKeyPair::from_der(key).map_err(unusable)?;
                let mut signature = vec![0; key.public().modulus_len()];
                let signed = key.sign(padding, &random, message, &mut signature);
                signed.map(|()| signature).map_err(|_| signature::Error::new())
            }
        }
    }
}

impl JwtSigner for KeyFor<EncodingKey> {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
