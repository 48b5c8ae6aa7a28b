//! Users with tokens and permissions, for tests of modules that do not run `auth` beside them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::json;
use tonic::Request;
use upm_mesh::Verifier;
use upm_proto::auth::v1::{Jwk, Jwks, PolicySnapshot, Role, RoleBinding};

use crate::time;

const KID: &str = "test";

/// A policy with a key of its own, and tokens that it accepts.
#[allow(missing_debug_implementations)]
pub struct People {
    key: EncodingKey,
    snapshot: PolicySnapshot,
}

impl Default for People {
    fn default() -> Self {
        Self::new()
    }
}

impl People {
    /// Nobody may anything yet.
    pub fn new() -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let point = pair.public_key_raw();
        let jwk = Jwk {
            kty: "EC".to_owned(),
            crv: "P-256".to_owned(),
            r#use: "sig".to_owned(),
            alg: "ES256".to_owned(),
            kid: KID.to_owned(),
            x: URL_SAFE_NO_PAD.encode(&point[1..33]),
            y: URL_SAFE_NO_PAD.encode(&point[33..]),
        };
        Self {
            key: EncodingKey::from_ec_der(pair.serialized_der()),
            snapshot: PolicySnapshot {
                revision: 1,
                jwks: Some(Jwks { keys: vec![jwk] }),
                ..PolicySnapshot::default()
            },
        }
    }

    /// Gives `users/<id>` permissions (wildcards allowed) on the platform, or in `projects/<id>`.
    #[must_use]
    pub fn may(mut self, user: &str, permissions: &[&str], project: Option<&str>) -> Self {
        let role = format!("roles/test-{}", self.snapshot.roles.len());
        self.snapshot.roles.push(Role {
            name: role.clone(),
            permissions: permissions
                .iter()
                .map(|&permission| permission.to_owned())
                .collect(),
            ..Role::default()
        });
        self.snapshot.role_bindings.push(RoleBinding {
            name: format!("roleBindings/{}", self.snapshot.role_bindings.len()),
            role,
            user: user.to_owned(),
            project: project.unwrap_or_default().to_owned(),
        });
        self
    }

    /// Gives `users/<id>` the role `roles/platform-admin` on the platform.
    #[must_use]
    pub fn administers(self, user: &str) -> Self {
        let mut people = self.may(user, &["*.*.*"], None);
        for name in people
            .snapshot
            .roles
            .last_mut()
            .map(|role| &mut role.name)
            .into_iter()
            .chain(
                people
                    .snapshot
                    .role_bindings
                    .last_mut()
                    .map(|b| &mut b.role),
            )
        {
            "roles/platform-admin".clone_into(name);
        }
        people
    }

    /// Decides by this policy.
    pub fn verifier(&self) -> Verifier {
        Verifier::fixed(&self.snapshot)
    }

    /// An access token of `users/<id>`, good for five minutes.
    pub fn token(&self, user: &str) -> String {
        let now = time::now_us() / time::SECOND_US;
        let claims = json!({
            "iss": "upm", "aud": "upm", "sub": user, "iat": now, "exp": now + 300,
            "jti": crate::ids::uuid7(),
        });
        let header = Header {
            kid: Some(KID.to_owned()),
            ..Header::new(Algorithm::ES256)
        };
        jsonwebtoken::encode(&header, &claims, &self.key).expect("a token")
    }

    /// A request with a token of `users/<id>`.
    pub fn request<T>(&self, user: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let value = format!("Bearer {}", self.token(user))
            .parse()
            .expect("ASCII");
        request.metadata_mut().insert("authorization", value);
        request
    }
}
