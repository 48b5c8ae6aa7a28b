//! Where in a cluster: `NAMESPACE/POD`, `NAMESPACE/POD:PATH`.

use std::{path::PathBuf, str::FromStr};

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl FromStr for Pod {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split('/').collect::<Vec<_>>()[..] {
            [namespace, name] if !namespace.is_empty() && !name.is_empty() => Ok(Self {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(format!("`{text}` is not NAMESPACE/POD")),
        }
    }
}

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// A file of a unit.
    Unit(Pod, String),
    /// A file here.
    Local(PathBuf),
}

impl FromStr for End {
    type Err = String;

    /// What has a colon behind a pod, and an absolute path behind that, is in a unit; `./` in front makes anything local.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a file has a name".to_owned());
        }
        let local = || Ok(Self::Local(PathBuf::from(text)));
        if text.starts_with('/') || text.starts_with('.') {
            return local();
        }
        match text.split_once(':') {
            Some((pod, path)) if path.starts_with('/') => {
                Ok(Self::Unit(pod.parse()?, path.to_owned()))
            }
            Some((pod, _)) if pod.parse::<Pod>().is_ok() => {
                Err(format!("the path in `{text}` is not absolute"))
            }
            _ => local(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        Pod {
            namespace: "p".into(),
            name: "demo-0".into(),
        }
    }

    #[test]
    fn a_pod_has_a_namespace() {
        assert_eq!("p/demo-0".parse(), Ok(pod()));
        for bad in ["demo-0", "/demo-0", "p/", "p/demo-0/x", ""] {
            assert!(bad.parse::<Pod>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_end_of_a_copy_is_in_a_unit_or_here() {
        let unit = |path: &str| Ok(End::Unit(pod(), path.to_owned()));
        let local = |path: &str| Ok(End::Local(PathBuf::from(path)));
        assert_eq!("p/demo-0:/data/a:b".parse(), unit("/data/a:b"));
        for here in ["a", "/tmp/a", "./p/demo-0:/data/a", "../a", "p/demo-0"] {
            assert_eq!(here.parse(), local(here), "{here}");
        }
        for bad in ["p/demo-0:data", "demo-0:/data", ""] {
            assert!(bad.parse::<End>().is_err(), "{bad}");
        }
    }
}
