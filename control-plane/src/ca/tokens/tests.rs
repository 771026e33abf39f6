//! The life of a join token: made, used up, revoked, expired, kept over a restart.

use super::*;

fn tokens(folder: &Path) -> Tokens {
    Tokens::open(folder, TrustDomain::default()).unwrap()
}

fn wanted(uses: Option<u32>) -> NewToken {
    NewToken {
        namespace: "shop".into(),
        service_account: "cart".into(),
        ttl: Duration::from_secs(60),
        uses,
    }
}

#[test]
fn a_token_stands_for_its_service_account_until_it_ends_in_any_way() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens(folder.path());
    let now = SystemTime::now();
    let (token, status) = tokens.create(wanted(Some(2)), [1; 32], now).unwrap();
    assert_eq!(token.root_sha256, [1; 32]);
    assert_eq!((&*status.namespace, &*status.service_account), ("shop", "cart"));

    tokens.consume(&token, now).unwrap();
    tokens.consume(&token, now).unwrap();
    assert!(matches!(tokens.consume(&token, now), Err(TokenRefusal::UsedUp { .. })));

    let (token, _) = tokens.create(wanted(None), [1; 32], now).unwrap();
    let late = now + Duration::from_secs(61);
    assert!(matches!(tokens.check(&token, late), Err(TokenRefusal::Expired { .. })));
    assert!(tokens.revoke(&token.id).unwrap());
    assert!(matches!(tokens.check(&token, now), Err(TokenRefusal::Revoked { .. })));
    assert!(!tokens.revoke("0000000000000000").unwrap());
}

#[test]
fn a_wrong_secret_and_a_wrong_name_are_refused_alike() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens(folder.path());
    let now = SystemTime::now();
    let (token, _) = tokens.create(wanted(None), [1; 32], now).unwrap();
    let wrong_secret = JoinToken { secret: "00".repeat(32), ..token.clone() };
    let wrong_name = JoinToken { id: "0000000000000000".into(), ..token.clone() };
    for wrong in [wrong_secret, wrong_name] {
        assert!(matches!(tokens.check(&wrong, now), Err(TokenRefusal::Unknown)));
    }
    tokens.revoke(&token.id).unwrap();
    let wrong_secret = JoinToken { secret: "00".repeat(32), ..token };
    assert!(matches!(tokens.check(&wrong_secret, now), Err(TokenRefusal::Unknown)));
}

#[test]
fn a_restart_keeps_tokens_uses_and_revocations_and_never_the_secret() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let first = tokens(folder.path());
    let (once, _) = first.create(wanted(Some(1)), [1; 32], now).unwrap();
    let (revoked, _) = first.create(wanted(None), [1; 32], now).unwrap();
    let (kept, _) = first.create(wanted(None), [1; 32], now).unwrap();
    first.consume(&once, now).unwrap();
    first.revoke(&revoked.id).unwrap();

    let again = tokens(folder.path());
    assert!(matches!(again.check(&once, now), Err(TokenRefusal::UsedUp { .. })));
    assert!(matches!(again.check(&revoked, now), Err(TokenRefusal::Revoked { .. })));
    again.check(&kept, now).unwrap();
    let file = std::fs::read_to_string(folder.path().join("tokens.json")).unwrap();
    assert!(!file.contains(&kept.secret));
}

#[test]
fn a_malformed_service_account_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = NewToken { service_account: "Cart".into(), ..wanted(None) };
    let error = tokens(folder.path()).create(wrong, [1; 32], SystemTime::now()).unwrap_err();
    assert!(error.to_string().contains("Cart"), "{error}");
}
