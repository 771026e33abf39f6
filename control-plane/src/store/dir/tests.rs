//! Files in a folder as a store: edits, mistakes, restarts.

mod guards;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::{
    model::{Condition, ConditionStatus, Kind, parse_object},
    store::{Event, Outcome},
};

/// Far more than a hand edit may take, so that only what never comes fails.
const DEADLINE: Duration = Duration::from_secs(20);

const CART: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec:\n  ports:\n  - port: 80\n";
const WEB: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec:\n  ports:\n  - port: 80\n";

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

async fn open(folder: &TempDir) -> DirStore {
    DirStore::open(folder.path()).await.expect("it opens")
}

fn put(folder: &TempDir, name: &str, text: &str) {
    fs::write(folder.path().join(name), text).expect("written");
}

fn object(text: &str) -> Object {
    parse_object(text).expect("valid")
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::Service, "shop", name)
}

async fn find(store: &DirStore, name: &str) -> Option<Arc<Object>> {
    let list = store.list().await.expect("listed");
    list.objects.into_iter().find(|object| object.key() == key(name))
}

fn port_of(object: &Object) -> u16 {
    let Object::Service(service) = object else { panic!("a service") };
    service.spec.ports[0].port.number()
}

/// The next change of an object; marks are passed over.
async fn change(watch: &mut Watch) -> Event {
    timeout(DEADLINE, async {
        loop {
            match watch.next().await.expect("not too slow") {
                Event::Synced(_) => {}
                event => return event,
            }
        }
    })
    .await
    .expect("a change in time")
}

async fn watch_changes(store: &DirStore) -> Watch {
    let now = store.list().await.expect("listed").version;
    store.watch(Some(now)).await.expect("watched")
}

async fn problems(store: &DirStore, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
    timeout(DEADLINE, async {
        let mut often = tokio::time::interval(Duration::from_millis(5));
        loop {
            let now = store.problems();
            if wanted(&now) {
                return now;
            }
            often.tick().await;
        }
    })
    .await
    .expect("the problems in time")
}

#[tokio::test]
async fn a_hand_edit_takes_effect_within_a_second() {
    let folder = folder();
    let store = open(&folder).await;
    let mut watch = watch_changes(&store).await;
    let began = tokio::time::Instant::now();
    put(&folder, "shop.yaml", CART);
    let Event::Applied(cart) = change(&mut watch).await else { panic!("applied") };
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!((cart.key(), cart.metadata().generation), (key("cart"), 1));
    put(&folder, "shop.yaml", &CART.replace("80", "81"));
    let Event::Applied(changed) = change(&mut watch).await else { panic!("applied") };
    assert_eq!((port_of(&changed), changed.metadata().generation), (81, 2));
    assert_eq!(changed.metadata().uid, cart.metadata().uid);
    fs::remove_file(folder.path().join("shop.yaml")).expect("removed");
    let Event::Deleted(gone) = change(&mut watch).await else { panic!("deleted") };
    assert_eq!(gone.key(), key("cart"));
}

#[tokio::test]
async fn a_broken_file_is_reported_and_its_last_good_state_stays_over_a_restart() {
    let folder = folder();
    put(&folder, "shop.yaml", &format!("{CART}---\n{WEB}"));
    let store = open(&folder).await;
    let uid = find(&store, "cart").await.expect("read").metadata().uid.clone();
    put(&folder, "shop.yaml", &format!("{}---\n{WEB}", CART.replace("80", "0")));
    let shown = problems(&store, |now| !now.is_empty()).await;
    let file = folder.path().join("shop.yaml");
    let expected = format!(
        "{}:6: Service shop/cart: spec.ports[0].port: invalid value: integer `0`",
        file.display()
    );
    assert!(shown[0].starts_with(&expected), "{shown:?}");
    assert_eq!(port_of(&find(&store, "cart").await.expect("in force")), 80);
    drop(store);

    let store = open(&folder).await;
    assert_eq!(store.problems(), shown);
    let cart = find(&store, "cart").await.expect("still in force");
    assert_eq!((port_of(&cart), &cart.metadata().uid), (80, &uid));
    assert!(find(&store, "web").await.is_some());
    let error =
        store.write(object(&CART.replace("80", "82")), false).await.expect_err("not the API's");
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");

    put(&folder, "shop.yaml", &CART.replace("80", "83"));
    problems(&store, <[String]>::is_empty).await;
    assert_eq!(port_of(&find(&store, "cart").await.expect("in force")), 83);
    assert!(find(&store, "web").await.is_none(), "the repaired file has it no more");
}

#[tokio::test]
async fn what_the_api_wrote_is_there_after_a_restart_with_a_greater_version() {
    let folder = folder();
    let store = open(&folder).await;
    let created = store.write(object(CART), false).await.expect("created");
    assert_eq!(created.outcome, Outcome::Created);
    let again = store.write(object(CART), false).await.expect("accepted");
    assert_eq!(again, Written { object: Arc::clone(&created.object), outcome: Outcome::Unchanged });
    let changed = store.write(object(&CART.replace("80", "81")), false).await.expect("changed");
    assert_eq!((changed.outcome, changed.object.metadata().generation), (Outcome::Configured, 2));
    let before = store.list().await.expect("listed");
    drop(store);

    let store = open(&folder).await;
    let after = store.list().await.expect("listed");
    assert_eq!(after.objects, before.objects);
    assert!(after.version >= before.version);
    let mut watch = watch_changes(&store).await;
    let third = store.write(object(WEB), false).await.expect("created");
    let version: Version = third
        .object
        .metadata()
        .resource_version
        .as_deref()
        .expect("set")
        .parse()
        .expect("a number");
    assert!(version > before.version);
    assert_eq!(change(&mut watch).await, Event::Applied(third.object));
    assert!(store.delete(&key("web")).await.expect("deleted").is_some());
    assert!(store.delete(&key("web")).await.expect("asked").is_none());
    drop(store);
    assert!(find(&open(&folder).await, "web").await.is_none());
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_and_leaves_nothing() {
    let folder = folder();
    let store = open(&folder).await;
    let written = store.write(object(CART), true).await.expect("fine");
    assert_eq!(written.outcome, Outcome::Created);
    assert!(find(&store, "cart").await.is_none());
    assert_eq!(fs::read_dir(folder.path().join("managed")).expect("there").count(), 0);
}

#[tokio::test]
async fn objects_made_by_hand_are_read_only_to_the_api() {
    let folder = folder();
    put(&folder, "shop.yaml", CART);
    let store = open(&folder).await;
    let unchanged = store.write(object(CART), false).await.expect("nothing to change");
    assert_eq!(unchanged.outcome, Outcome::Unchanged);
    let path = folder.path().join("shop.yaml").display().to_string();
    let errors = [
        store.write(object(&CART.replace("80", "81")), false).await.map(drop),
        store.delete(&key("cart")).await.map(drop),
    ];
    for error in errors {
        let error = error.expect_err("refused").to_string();
        assert_eq!(
            error,
            format!("Service shop/cart stands in {path}, which is made by hand: change it there")
        );
    }
}

#[tokio::test]
async fn an_outdated_version_is_a_conflict() {
    let folder = folder();
    let store = open(&folder).await;
    let first = store.write(object(CART), false).await.expect("created").object;
    let mut stale = (*first).clone();
    store.write(object(&CART.replace("80", "81")), false).await.expect("changed");
    let error = store.write(stale.clone(), false).await.expect_err("refused");
    assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
    *stale.metadata_mut() = object(WEB).metadata().clone();
    stale.metadata_mut().resource_version = Some("7".into());
    let error = store.write(stale, false).await.expect_err("refused").to_string();
    assert!(error.contains("\"7\", but there is no such object"), "{error}");
}

#[tokio::test]
async fn of_two_files_with_one_object_the_first_by_name_is_in_force() {
    let folder = folder();
    let store = open(&folder).await;
    store.write(object(&CART.replace("80", "3")), false).await.expect("created");
    put(&folder, "b.yaml", &CART.replace("80", "2"));
    put(&folder, "a.yaml", &format!("\n{}", CART.replace("80", "1")));
    let shown = problems(&store, |now| now.len() == 2).await;
    assert_eq!(port_of(&find(&store, "cart").await.expect("in force")), 1);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let expected = format!(
        "{}:2: Service shop/cart stands in {} already, which is in force: remove one of them",
        path("b.yaml"),
        path("a.yaml")
    );
    assert_eq!(shown[0], expected);
    assert!(shown[1].starts_with(&path("managed/services.shop.cart.yaml")), "{}", shown[1]);
    fs::remove_file(path("a.yaml")).expect("removed");
    problems(&store, |now| now.len() == 1).await;
    assert_eq!(port_of(&find(&store, "cart").await.expect("in force")), 2);
}

#[tokio::test]
async fn an_object_that_stands_twice_in_one_file_is_told_and_the_first_is_in_force() {
    let folder = folder();
    put(&folder, "a.yaml", &format!("{CART}---\n{}", CART.replace("80", "81")));
    let store = open(&folder).await;
    let path = folder.path().join("a.yaml").display().to_string();
    let expected = format!(
        "{path}:9: Service shop/cart stands in {path}:2 already, which is in force: remove one of them"
    );
    assert_eq!(store.problems(), [expected]);
    assert_eq!(port_of(&find(&store, "cart").await.expect("in force")), 80);
}

#[tokio::test]
async fn a_thousand_objects_of_one_file_are_read_in_one_go_and_nothing_is_rewritten_after_a_restart()
 {
    let folder = folder();
    let all: Vec<String> =
        (0..1000).map(|number| CART.replace("cart", &format!("cart-{number}"))).collect();
    put(&folder, "a.yaml", &all.join("---\n"));
    let store = open(&folder).await;
    let before = store.list().await.expect("listed");
    assert_eq!(before.objects.len(), 1000);
    drop(store);
    let last_good = folder.path().join("state/last-good/a.yaml.json");
    let written = || fs::metadata(&last_good).and_then(|at| at.modified()).expect("there");
    let then = written();
    let store = open(&folder).await;
    assert_eq!(store.list().await.expect("listed").objects, before.objects);
    assert_eq!(written(), then);
}

#[tokio::test]
async fn what_a_killed_process_left_unfinished_is_not_read_and_is_cleared_away() {
    let folder = folder();
    let store = open(&folder).await;
    store.write(object(CART), false).await.expect("created");
    drop(store);
    // Killed while it wrote the next state of the object, its last good state and the counter.
    for unfinished in [
        "managed/.services.shop.cart.yaml.unfinished",
        "state/last-good/managed/.services.shop.cart.yaml.json.unfinished",
        "state/.version.unfinished",
    ] {
        put(&folder, unfinished, "apiVersion: v1\nkind: Serv");
    }
    let store = open(&folder).await;
    assert_eq!(store.problems(), Vec::<String>::new());
    assert_eq!(port_of(&find(&store, "cart").await.expect("there")), 80);
    assert!(!folder.path().join("managed/.services.shop.cart.yaml.unfinished").exists());
}

#[tokio::test]
async fn a_process_killed_between_its_files_loses_nothing() {
    let folder = folder();
    let store = open(&folder).await;
    let written = store.write(object(CART), false).await.expect("created").object;
    drop(store);
    // The object's file was replaced, the state folder was not: not yet written, or lost altogether.
    for lost in ["state/last-good/managed/services.shop.cart.yaml.json", "state/version"] {
        fs::remove_file(folder.path().join(lost)).expect("it was there");
    }
    let store = open(&folder).await;
    let cart = find(&store, "cart").await.expect("there");
    assert_eq!(cart.metadata().uid, written.metadata().uid);
    assert_eq!(cart.metadata().creation_timestamp, written.metadata().creation_timestamp);
    drop(store);
    // The object's file was removed, its last good state was not yet.
    fs::remove_file(folder.path().join("managed/services.shop.cart.yaml")).expect("it was there");
    assert!(find(&open(&folder).await, "cart").await.is_none());
    assert!(!folder.path().join("state/last-good/managed/services.shop.cart.yaml.json").exists());
}

#[tokio::test]
async fn a_managed_file_may_be_edited_and_even_broken_by_hand() {
    let folder = folder();
    let store = open(&folder).await;
    store.write(object(CART), false).await.expect("created");
    let name = "managed/services.shop.cart.yaml";
    let text = fs::read_to_string(folder.path().join(name)).expect("there");
    let mut watch = watch_changes(&store).await;
    put(&folder, name, &text.replace("80", "85"));
    let Event::Applied(edited) = change(&mut watch).await else { panic!("applied") };
    assert_eq!((port_of(&edited), edited.metadata().generation), (85, 2));
    put(&folder, name, "kind: [");
    problems(&store, |now| now.len() == 1).await;
    assert_eq!(port_of(&find(&store, "cart").await.expect("in force")), 85);
    store
        .write(object(&CART.replace("80", "86")), false)
        .await
        .expect("the API repairs its own file");
    assert!(store.problems().is_empty());
    // With a second object in it, it is no longer the API's alone.
    put(&folder, name, &format!("{CART}---\n{WEB}"));
    loop {
        if let Event::Applied(web) = change(&mut watch).await
            && web.key() == key("web")
        {
            break;
        }
    }
    for refused in [key("cart"), key("web")] {
        assert!(matches!(store.delete(&refused).await, Err(StoreError::HandMade { .. })));
    }
}

#[tokio::test]
async fn a_status_outlives_a_restart_and_is_not_the_writers() {
    let folder = folder();
    let store = open(&folder).await;
    let cart = store.write(object(CART), false).await.expect("created").object;
    let uid = cart.metadata().uid.clone().expect("set");
    let status = Status {
        conditions: vec![Condition {
            r#type: "Accepted".into(),
            status: ConditionStatus::True,
            reason: "Accepted".into(),
            message: String::new(),
            observed_generation: 1,
            last_transition_time: "2026-01-01T00:00:00Z".into(),
        }],
        parents: Vec::new(),
    };
    store.write_status(&key("cart"), "another", status.clone()).await.expect("ignored");
    assert_eq!(find(&store, "cart").await.expect("there").status(), &Status::default());
    store.write_status(&key("cart"), &uid, status.clone()).await.expect("written");
    let written = find(&store, "cart").await.expect("there");
    assert_ne!(written.metadata().resource_version, cart.metadata().resource_version);
    drop(store);
    let store = open(&folder).await;
    assert_eq!(find(&store, "cart").await.expect("there"), written);
    let changed = store.write(object(&CART.replace("80", "81")), false).await.expect("changed");
    assert_eq!(changed.object.status(), &status);
}

#[tokio::test]
async fn a_watch_gives_the_state_a_mark_and_then_every_change() {
    let folder = folder();
    put(&folder, "a.yaml", CART);
    let store = open(&folder).await;
    let mut watch = store.watch(None).await.expect("watched");
    assert!(matches!(watch.next().await, Ok(Event::Applied(_))));
    let Ok(Event::Synced(version)) = watch.next().await else { panic!("the mark") };
    store.write(object(WEB), false).await.expect("created");
    let Event::Applied(web) = change(&mut watch).await else { panic!("applied") };
    // Resumed from the mark, another watch tells the same.
    let mut resumed = store.watch(Some(version)).await.expect("resumed");
    assert_eq!(resumed.next().await.expect("an event"), Event::Applied(web));
    assert!(matches!(resumed.next().await, Ok(Event::Synced(_))));
    let future = store.watch(Some(Version(u64::MAX))).await;
    assert!(matches!(future, Err(StoreError::TooOld { .. })));
}

#[tokio::test]
async fn a_watch_from_before_a_restart_begins_again() {
    let folder = folder();
    let store = open(&folder).await;
    let before = store.list().await.expect("listed").version;
    store.write(object(CART), false).await.expect("created");
    drop(store);
    let store = open(&folder).await;
    assert!(matches!(store.watch(Some(before)).await, Err(StoreError::TooOld { .. })));
}

#[tokio::test]
async fn a_directory_has_one_control_plane() {
    let folder = folder();
    let _store = open(&folder).await;
    let error = DirStore::open(folder.path()).await.expect_err("it is taken");
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
}

#[tokio::test]
async fn hidden_files_and_other_kinds_of_files_are_not_read() {
    let folder = folder();
    for name in [".shop.yaml.swp", ".shop.yaml", "shop.yaml~", "notes.txt", "shop"] {
        put(&folder, name, "nonsense: [");
    }
    put(&folder, "shop.json", &object(CART).to_json().to_string());
    let store = open(&folder).await;
    assert_eq!(store.problems(), Vec::<String>::new());
    assert!(find(&store, "cart").await.is_some());
}

/// Names the store of the process that is going to be killed.
const VICTIM_STORE: &str = "WEFT_TEST_VICTIM_STORE";

/// Not a test: what the next one starts and kills.
#[tokio::test]
#[ignore = "started by kill_nine_loses_nothing_that_was_acknowledged"]
async fn victim() {
    let Some(path) = std::env::var_os(VICTIM_STORE) else { return };
    let store = DirStore::open(Path::new(&path)).await.expect("it opens");
    let first = store.list().await.expect("listed").version.0;
    for number in first.. {
        let name = format!("cart-{}", number % 7);
        let text = CART.replace("cart", &name).replace("80", &(1 + number % 60_000).to_string());
        let written = store.write(object(&text), false).await.expect("written").object;
        let line =
            format!("acked {name} {} {}\n", port_of(&written), written.metadata().generation);
        std::io::stdout().write_all(line.as_bytes()).expect("somebody listens");
    }
}

#[tokio::test]
async fn kill_nine_loses_nothing_that_was_acknowledged() {
    let folder = folder();
    let mut newest = BTreeMap::new();
    for round in 1..=5 {
        let mut victim = Command::new(std::env::current_exe().expect("this test's program"))
            .args(["--exact", "store::dir::tests::victim", "--ignored", "--nocapture"])
            .env(VICTIM_STORE, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut acked = 0;
        for line in BufReader::new(victim.stdout.take().expect("piped")).lines() {
            let line = line.expect("text");
            let mut words = line.split_once("acked ").unwrap_or_default().1.split(' ');
            let (Some(name), Some(port), Some(generation)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let written: (u16, u64) =
                (port.parse().expect("a port"), generation.parse().expect("a number"));
            newest.insert(name.to_owned(), written);
            acked += 1;
            if acked == 11 * round {
                victim.kill().expect("killed");
            }
        }
        victim.wait().expect("it is gone");
        assert!(acked >= 11 * round, "round {round} ended after {acked}");
        let store = open(&folder).await;
        assert_eq!(store.problems(), Vec::<String>::new());
        for (name, (port, generation)) in &mut newest {
            let kept = find(&store, name).await.expect("acknowledged");
            let now = (port_of(&kept), kept.metadata().generation);
            // One more may have been written than was acknowledged.
            assert!(now == (*port, *generation) || now.1 == *generation + 1, "{name}: {now:?}");
            (*port, *generation) = now;
        }
    }
}
