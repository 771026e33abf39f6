//! What guards access in a file that cannot be read.

use super::*;
use crate::model::stand_in::unread;

const BAD: &str = "apiVersion: weft.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: who, namespace: shop}\nspec:\n  targetRefs: [{kind: Service, name: cart}]\n  rules: [{action: Allow, later: 1}]\n";

async fn policy(store: &DirStore) -> Option<Arc<Object>> {
    let list = store.list().await.expect("listed");
    list.objects.into_iter().find(|object| object.kind() == Kind::AccessPolicy)
}

fn rules(object: &Object) -> serde_json::Value {
    object.to_json()["spec"]["rules"].clone()
}

#[tokio::test]
async fn a_policy_that_could_never_be_read_denies_until_it_can_and_then_its_last_good_form_stays() {
    let folder = folder();
    put(&folder, "shop.yaml", &format!("{CART}---\n{BAD}"));
    let deny_all = serde_json::json!([{"action": "Deny"}]);
    // Also over a restart: what only stands for it is no last good form.
    for _ in 0..2 {
        let store = open(&folder).await;
        let found = policy(&store).await.expect("something stands for it");
        assert!(unread(&found).is_some_and(|problem| problem.contains("later")), "{found:?}");
        assert_eq!(rules(&found), deny_all);
        assert!(find(&store, "cart").await.is_none(), "of a broken file nothing else is taken");
        assert_eq!(store.problems().len(), 1);
    }
    let good = BAD.replace(", later: 1", "");
    put(&folder, "shop.yaml", &format!("{CART}---\n{good}"));
    {
        let store = open(&folder).await;
        let found = policy(&store).await.expect("it is there");
        assert_eq!(
            (unread(&found), rules(&found)),
            (None, serde_json::json!([{"action": "Allow"}]))
        );
    }
    put(&folder, "shop.yaml", BAD);
    let store = open(&folder).await;
    let found = policy(&store).await.expect("its last good form");
    assert_eq!((unread(&found), rules(&found)), (None, serde_json::json!([{"action": "Allow"}])));
    let mut watch = watch_changes(&store).await;
    fs::remove_file(folder.path().join("shop.yaml")).expect("removed");
    loop {
        if let Event::Deleted(gone) = change(&mut watch).await
            && gone.kind() == Kind::AccessPolicy
        {
            break;
        }
    }
}

#[tokio::test]
async fn what_stands_for_a_policy_goes_with_it_while_its_file_is_broken() {
    let folder = folder();
    put(&folder, "shop.yaml", BAD);
    let store = open(&folder).await;
    assert!(policy(&store).await.is_some());
    let mut watch = watch_changes(&store).await;
    put(&folder, "shop.yaml", "kind: Nothing\n");
    let Event::Deleted(gone) = change(&mut watch).await else { panic!("it is gone") };
    assert_eq!(gone.kind(), Kind::AccessPolicy);
}

#[tokio::test]
async fn a_second_mistake_before_a_policy_that_was_never_read_does_not_open_access() {
    for policy_text in [BAD.to_owned(), BAD.replace(", later: 1", "")] {
        let folder = folder();
        put(&folder, "shop.yaml", &format!("kind: Nothing\n---\n{policy_text}"));
        let store = open(&folder).await;
        let before = policy(&store).await.expect("in force");
        let told = store.problems();
        put(&folder, "shop.yaml", &format!("kind: {{\n---\n{policy_text}"));
        problems(&store, |now| now != told).await;
        assert_eq!(policy(&store).await, Some(before));
    }
}

#[tokio::test]
async fn a_broken_file_displaces_no_good_object_of_another() {
    let folder = folder();
    let store = open(&folder).await;
    let good = object(&BAD.replace(", later: 1", ""));
    store.write(good.clone(), false).await.expect("created");
    put(&folder, "a.yaml", BAD);
    // It is told twice: that it is broken, and that the other counts.
    problems(&store, |now| now.len() == 2).await;
    let found = policy(&store).await.expect("in force");
    assert_eq!((unread(&found), rules(&found)), (None, rules(&good)));
}
