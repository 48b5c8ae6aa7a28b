//! The authority in its folder, and how its key is replaced.
//!
//! `ca.key` is the key that signs. `ca.crt` begins with its root; what follows is of earlier rotations. A rotation makes a new key and signs
//! with it at once, and writes two more certificates: the new key signed by the old one (*cross*), and the old root once more, with the end
//! of the overlap as its end. So
//!
//! * who knows only the old root verifies what the new key signs, because the cross certificate travels in every chain;
//! * who knows the new roots accepts what the old key has signed until the overlap ends, and forgets the old root then by itself;
//! * the old key is gone: nobody can sign with it any more.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::CertificateDer;

use super::{
    Authority, Error,
    anchors::living,
    authority::{
        ROOT_LIFETIME, State, ends, is_root, name_of, parsed, root_params, set_lifetime,
        write_private, write_replacing,
    },
};

const CERTIFICATE_FILE: &str = "ca.crt";
const KEY_FILE: &str = "ca.key";
/// The certificates of a rotation that is being written.
const NEXT_FILE: &str = "ca.crt.next";
/// An overlap is at most this long.
const LONGEST: Duration = Duration::from_hours(90 * 24);

impl Authority {
    /// Opens the authority in a directory, or makes one there. The key's file has mode 0600. Errors: files, or a key that others can read.
    pub fn open_or_create(directory: &Path) -> Result<Self, Error> {
        if directory.join(KEY_FILE).exists() {
            return Ok(Self::of(read(directory)?));
        }
        fs::create_dir_all(directory).map_err(Error::file(directory))?;
        let made = State::create()?;
        write_private(&directory.join(KEY_FILE), made.key_pem().as_bytes())?;
        let certificates = made.certificates_pem();
        write_replacing(
            &directory.join(CERTIFICATE_FILE),
            certificates.as_bytes(),
            0o644,
        )?;
        Ok(Self::of(made))
    }

    /// Reads the files again; answers whether anything has changed. Errors: as above, and what is in use stays.
    pub fn reload(&self, directory: &Path) -> Result<bool, Error> {
        Ok(self.adopt(read(directory)?))
    }

    /// Takes what was read; answers whether anything has changed.
    pub(super) fn adopt(&self, read: State) -> bool {
        let now = self.state();
        let changed = read.root != now.root || read.former != now.former;
        if changed {
            self.replace(read);
        }
        changed
    }

    /// Signs with a new key from now on; the root before is trusted for `overlap`, at most 90 days. Stored nowhere.
    /// Errors: an overlap runs already.
    pub fn rotate(&self, overlap: Duration) -> Result<(), Error> {
        let next = self.state().successor(overlap)?;
        self.replace(next);
        Ok(())
    }

    /// The same for the authority in a directory. Processes that follow the directory learn of it by themselves. A crash half-way leaves
    /// the authority of before or of after.
    pub fn rotate_in(directory: &Path, overlap: Duration) -> Result<Self, Error> {
        let next = read(directory)?.successor(overlap)?;
        let certificates = next.certificates_pem();
        write_replacing(&directory.join(NEXT_FILE), certificates.as_bytes(), 0o644)?;
        // From here on the new key signs: `read` finds its certificates in the other file.
        write_private(&directory.join(KEY_FILE), next.key_pem().as_bytes())?;
        finish(directory)?;
        Ok(Self::of(next))
    }

    /// Ends the overlap of the authority in a directory now: no root but the one that signs is trusted. With `compromised`, also what
    /// leads from earlier roots to it is forgotten: then an agent that knows only those needs a new join command.
    pub fn retire_in(directory: &Path, compromised: bool) -> Result<Self, Error> {
        let mut state = read(directory)?;
        state
            .former
            .retain(|former| !is_root(former) && !compromised);
        let certificates = state.certificates_pem();
        write_replacing(
            &directory.join(CERTIFICATE_FILE),
            certificates.as_bytes(),
            0o644,
        )?;
        Ok(Self::of(state))
    }

    /// Whether the key that signs has replaced another one, and what leads from there is kept.
    pub fn has_former(&self) -> bool {
        !self.state().former.is_empty()
    }

    /// Whether who was let in before may be trusted no more: an overlap runs or has run, or this process has seen a replacement.
    pub fn has_changed(&self) -> bool {
        self.has_former() || *self.replaced().borrow() > 0
    }

    /// Whether nothing leads here from an earlier key: there was none, or it fell into wrong hands ([`Authority::retire_in`]), and then
    /// nothing that goes back to it proves anything.
    pub fn stands_alone(&self) -> bool {
        !self.has_former()
    }

    /// When the overlap of the last rotation ends; `None` when none runs.
    pub fn overlap_ends(&self) -> Option<SystemTime> {
        self.state().overlap_ends()
    }
}

impl State {
    fn overlap_ends(&self) -> Option<SystemTime> {
        living(&self.former, SystemTime::now())
            .filter(is_root)
            .filter_map(|root| ends(&root).ok())
            .max()
    }

    fn successor(&self, overlap: Duration) -> Result<Self, Error> {
        if self.overlap_ends().is_some() {
            return Err(Error::Overlap);
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let name = name_of(&key);
        let mut params = root_params(&name);
        set_lifetime(&mut params, ROOT_LIFETIME);
        let root = params.self_signed(&key)?.der().clone();

        // It leads from the old root to the new one for as long as the old root would have lived.
        let left = ends(&self.root)?
            .duration_since(SystemTime::now())
            .unwrap_or_default();
        let mut params = root_params(&name);
        set_lifetime(&mut params, left);
        let cross = params.signed_by(&key, &self.issuer)?.der().clone();

        let mut former = vec![cross, self.ending(overlap.min(LONGEST).min(left))?];
        former.extend(living(&self.former, SystemTime::now()));
        Self::assemble(root, former, key)
    }

    /// This root once more, with another end.
    fn ending(&self, life: Duration) -> Result<CertificateDer<'static>, Error> {
        let of_other_names = Error::Request("the root's name is not one that can be written again");
        let old = parsed(&self.root)?;
        let name = old
            .subject()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok());
        let Some(name) = name else {
            return Err(of_other_names);
        };
        let mut params = root_params(name);
        set_lifetime(&mut params, life);
        let root = params.self_signed(self.issuer.key())?.der().clone();
        // Certificates name their issuer byte by byte.
        if parsed(&root)?.subject().as_raw() != old.subject().as_raw() {
            return Err(of_other_names);
        }
        Ok(root)
    }
}

pub(super) fn read(directory: &Path) -> Result<State, Error> {
    let (certificate, key) = (directory.join(CERTIFICATE_FILE), directory.join(KEY_FILE));
    let mode = fs::metadata(&key)
        .map_err(Error::file(&key))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(Error::KeyExposed(key));
    }
    let text = |path: &Path| fs::read_to_string(path).map_err(Error::file(path));
    let key_pem = text(&key)?;
    let read = State::from_pem(&text(&certificate)?, &key_pem);
    if read.is_ok() {
        return read;
    }
    // A rotation was cut off after its key was written, or is being written.
    let next = directory.join(NEXT_FILE);
    match text(&next).and_then(|text| State::from_pem(&text, &key_pem)) {
        Ok(next) => Ok(next),
        Err(_) => read,
    }
}

/// Puts the certificates of a rotation beside their key.
fn finish(directory: &Path) -> Result<(), Error> {
    let (next, certificate) = (directory.join(NEXT_FILE), directory.join(CERTIFICATE_FILE));
    fs::rename(&next, &certificate).map_err(Error::file(certificate))
}

#[cfg(test)]
mod tests;
