//! Texts are told apart byte by byte, trailing spaces too.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use url::Url;

use super::{ITEMS, add, size};
use crate::{Connection, Error, Store, testing};

#[tokio::test]
async fn keys_that_differ_in_a_trailing_space_are_two() {
    for test in testing::stores("spaces", || ITEMS).await {
        let found = test
            .store
            .transact("add", |conn| {
                add(conn, "ada", 1)?;
                add(conn, "ada ", 2)?;
                Ok::<_, Error>((
                    size(conn, "ada")?,
                    size(conn, "ada ")?,
                    size(conn, "ada  ")?,
                ))
            })
            .await
            .unwrap();
        assert_eq!(found, (Some(1), Some(2), None), "{}", test.database);
    }
}

/// As builds made them that named a collation which pads.
const EARLIER: &str = "
    ALTER DATABASE CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
    CREATE TABLE parents (id VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, size INT NOT NULL DEFAULT 7);
    CREATE TABLE children (
        id VARCHAR(100) NOT NULL PRIMARY KEY,
        parent VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE
    ) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
    INSERT INTO parents (id) VALUES ('ada');
    INSERT INTO children VALUES ('kept', 'ada');";

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

fn count(conn: &mut Connection, from: &str) -> Result<i64, Error> {
    let counted: Counted =
        diesel::sql_query(format!("SELECT COUNT(*) AS number FROM {from}")).get_result(conn)?;
    Ok(counted.number)
}

#[tokio::test]
async fn tables_of_earlier_builds_learn_to_tell_spaces() {
    let test = testing::mariadb("earlier", ITEMS).await;
    test.store
        .transact("make", |conn| Ok::<_, Error>(conn.batch_execute(EARLIER)?))
        .await
        .unwrap();
    let store = Store::open(&test.url, "earlier", ITEMS).await.unwrap();
    let padded = "information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND COLLATION_NAME <> 'utf8mb4_nopad_bin'";
    let left = store.read("look", move |conn| count(conn, padded)).await;
    assert_eq!(left.unwrap(), 0);
    let found = store
        .transact("add", |conn| {
            diesel::sql_query("INSERT INTO parents (id) VALUES (?)")
                .bind::<Text, _>("ada ")
                .execute(conn)?;
            let orphan = diesel::sql_query("INSERT INTO children VALUES ('no', 'nobody')");
            assert!(orphan.execute(conn).is_err(), "foreign keys are checked");
            diesel::sql_query("DELETE FROM parents WHERE id = ?")
                .bind::<Text, _>("ada ")
                .execute(conn)?;
            Ok::<_, Error>((count(conn, "parents")?, count(conn, "children")?))
        })
        .await
        .unwrap();
    assert_eq!(found, (1, 1), "only the parent with the space went");
    let cascades = store.transact("delete", |conn| {
        diesel::sql_query("DELETE FROM parents WHERE id = 'ada'").execute(conn)?;
        count(conn, "children")
    });
    assert_eq!(cascades.await.unwrap(), 0, "the foreign key is as it was");
}

#[tokio::test]
async fn a_crash_in_the_conversion_loses_no_foreign_key() {
    let test = testing::mariadb("crashed", ITEMS).await;
    let make = "INSERT INTO upm_meta VALUES ('fk:of_parent', \
        'ALTER TABLE children ADD CONSTRAINT of_parent FOREIGN KEY (parent) REFERENCES parents (id)');
        CREATE TABLE parents (id VARCHAR(40) NOT NULL PRIMARY KEY);
        CREATE TABLE children (id VARCHAR(40) NOT NULL PRIMARY KEY, parent VARCHAR(40) NOT NULL) COLLATE utf8mb4_bin;";
    test.store
        .transact("make", |conn| Ok::<_, Error>(conn.batch_execute(make)?))
        .await
        .unwrap();
    for _ in 0..2 {
        let store = Store::open(&test.url, "crashed", ITEMS).await.unwrap();
        let orphan = store
            .transact("orphan", |conn| {
                diesel::sql_query("INSERT INTO children VALUES ('x', 'nobody')").execute(conn)?;
                Ok::<_, Error>(())
            })
            .await;
        assert!(orphan.is_err(), "the foreign key is back");
    }
}

#[tokio::test]
async fn an_account_of_one_module_reaches_no_other() {
    let mine = testing::mariadb("mine", ITEMS).await;
    let theirs = testing::mariadb("theirs", ITEMS).await;
    let path = |url: &str| Url::parse(url).unwrap().path()[1..].to_owned();
    let (my_database, their_database) = (path(&mine.url), path(&theirs.url));
    let grants = format!(
        "CREATE USER only_{my_database}@localhost IDENTIFIED BY 'one of its own';
        GRANT ALL ON `{my_database}`.* TO only_{my_database}@localhost;"
    );
    mine.store
        .transact("grant", move |conn| {
            Ok::<_, Error>(conn.batch_execute(&grants)?)
        })
        .await
        .unwrap();
    let as_account = |url: &str| {
        let mut url = Url::parse(url).unwrap();
        url.set_username(&format!("only_{my_database}")).unwrap();
        url.set_password(Some("one%20of%20its%20own")).unwrap();
        url.to_string()
    };
    let store = Store::open(&as_account(&mine.url), "mine", ITEMS)
        .await
        .expect("it migrates and uses its own database");
    store
        .transact("add", |conn| add(conn, "x", 1))
        .await
        .unwrap();
    let refused = Store::open(&as_account(&theirs.url), "theirs", ITEMS).await;
    assert!(refused.is_err(), "another's database");
    let reads = store.read("look", move |conn| {
        count(conn, &format!("`{their_database}`.items"))
    });
    assert!(reads.await.is_err(), "another's table");
}
