//! Where a module's database is: `sqlite:<path>` or `mysql://user:password@host:port/database`.

use std::path::PathBuf;

use url::Url;

use crate::Error;

/// A parsed store address. `Debug` hides the password.
#[derive(Clone)]
pub(crate) enum Address {
    Sqlite(PathBuf),
    Mysql(Url),
}

impl Address {
    /// Parses `text`. A SQLite path that ends in `/` names a folder, in which the file is `<module>.db`; a MySQL address without a
    /// database means `upm_<module>`.
    pub(crate) fn parse(text: &str, module: &str) -> Result<Self, Error> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" | ":memory:" => Err(Error::Address(
                    "sqlite: needs the path of a file".to_owned(),
                )),
                folder if folder.ends_with('/') => Ok(Self::Sqlite(
                    PathBuf::from(folder).join(format!("{module}.db")),
                )),
                file => Ok(Self::Sqlite(PathBuf::from(file))),
            };
        }
        let mut url = Url::parse(text)
            .ok()
            .filter(|url| url.scheme() == "mysql" && url.has_host())
            .ok_or_else(|| {
                Error::Address("neither sqlite:<path> nor mysql://<host>/<database>".to_owned())
            })?;
        if url.path().trim_matches('/').is_empty() {
            url.set_path(&format!("/upm_{}", module.replace('-', "_")));
        }
        let database = url.path().trim_start_matches('/');
        if !database
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        {
            return Err(Error::Address(
                "the database name has characters beyond a-z, 0-9, _ and -".to_owned(),
            ));
        }
        Ok(Self::Mysql(url))
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Mysql(url) => write!(
                f,
                "mysql://{}:{}{}",
                url.host_str().unwrap_or_default(),
                url.port().unwrap_or(3306),
                url.path()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_database_after_the_module_when_the_address_does_not() {
        let folder = Address::parse("sqlite:/var/lib/upm/", "auth").unwrap();
        assert_eq!(format!("{folder:?}"), "sqlite:/var/lib/upm/auth.db");
        let server = Address::parse("mysql://u:secret@db:3307", "redis-cluster").unwrap();
        assert_eq!(format!("{server:?}"), "mysql://db:3307/upm_redis_cluster");
    }

    #[test]
    fn refuses_addresses_that_name_no_database_it_knows() {
        for bad in [
            "",
            "postgres://x/y",
            "sqlite:",
            "sqlite::memory:",
            "mysql://h/a;drop",
        ] {
            assert!(Address::parse(bad, "m").is_err(), "{bad}");
        }
    }
}
