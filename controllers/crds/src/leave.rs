//! The leave handshake between who ends pods and who keeps their topology: two annotations on the pod.
//!
//! The request names the pod's uid, so that it is never taken for one of the next pod of that name; so does the answer.

use std::collections::BTreeMap;

use crate::names::annotation;

/// The value of [`annotation::LEAVE_REQUESTED`]: why the pod with this uid shall go. The reason is a CamelCase word.
pub fn request(reason: &str, uid: &str) -> String {
    format!("{reason}, {uid}")
}

/// Why the pod with this uid shall go, when that was asked for exactly this pod.
pub fn requested<'a>(annotations: &'a BTreeMap<String, String>, uid: &str) -> Option<&'a str> {
    let (reason, of) = annotations
        .get(annotation::LEAVE_REQUESTED)?
        .rsplit_once(',')?;
    (!uid.is_empty() && of.trim() == uid).then(|| reason.trim())
}

/// Whether the pod with this uid may go: it was asked for, and its gatekeeper agreed.
pub fn granted(annotations: &BTreeMap<String, String>, uid: &str) -> bool {
    requested(annotations, uid).is_some()
        && annotations
            .get(annotation::LEAVE_GRANTED)
            .is_some_and(|of| of == uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        owned.collect()
    }

    #[test]
    fn request_and_grant_count_for_one_pod_only() {
        let asked = request("RollingUpdate", "u1");
        let both = annotations(&[
            (annotation::LEAVE_REQUESTED, &asked),
            (annotation::LEAVE_GRANTED, "u1"),
        ]);
        assert_eq!(requested(&both, "u1"), Some("RollingUpdate"));
        assert!(granted(&both, "u1"));
        assert_eq!(requested(&both, "u2"), None, "the next pod of the name");
        assert!(!granted(&both, "u2"));
    }

    #[test]
    fn grant_without_a_request_counts_for_nothing() {
        let only = annotations(&[(annotation::LEAVE_GRANTED, "u1")]);
        assert!(!granted(&only, "u1"));
        let other = annotations(&[
            (annotation::LEAVE_REQUESTED, "Drain, u1"),
            (annotation::LEAVE_GRANTED, "u0"),
        ]);
        assert!(!granted(&other, "u1"));
        let no_uid = annotations(&[(annotation::LEAVE_REQUESTED, "Drain")]);
        assert_eq!(requested(&no_uid, ""), None);
    }
}
