//! The signer and parser of core against the sandbox, which shares no code with them.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request};
use http_body_util::Full;
use imageshare_core::{
    Credential, Permission, UnixSeconds,
    actions::{
        Action, AssumeRole, AssumeRoleWithWebIdentity, DescribeImageSharePermission, DescribeImages, GetCallerIdentity,
        ImageState, ModifyImageSharePermission,
    },
    request::{Host, Prepared, SignedRequest, Signer, Stamp, Target},
    response::{self, Failure},
};

use super::{
    super::Config,
    kit::{Client, IMAGE, start},
};
use crate::{
    clock::Clock,
    world::{SECRET_ID, SECRET_KEY, World},
};

fn credential() -> Credential {
    let (secret_id, secret_key) = (SECRET_ID.parse().unwrap(), SECRET_KEY.parse().unwrap());
    Credential { secret_id, secret_key, token: None }
}

async fn call<A: Action>(client: &Client, credential: Credential, action: &A) -> Result<A::Answer, Failure> {
    let region = Some("ap-singapore".parse().unwrap());
    let prepared = Prepared::new(action, &Target { host: Host::new(&client.host).unwrap(), region, language: None });
    let mut signer = Signer::new(credential);
    send::<A>(client, &signer.sign(&prepared, UnixSeconds::new(Clock::unix_seconds()).unwrap())).await
}

async fn call_unsigned<A: Action>(client: &Client, action: &A) -> Result<A::Answer, Failure> {
    let region = Some("ap-singapore".parse().unwrap());
    let prepared = Prepared::new(action, &Target { host: Host::new(&client.host).unwrap(), region, language: None });
    send::<A>(client, &prepared.unsigned(UnixSeconds::new(Clock::unix_seconds()).unwrap(), &mut Stamp::default())).await
}

async fn send<A: Action>(client: &Client, signed: &SignedRequest<'_>) -> Result<A::Answer, Failure> {
    let mut request = Request::new(Full::from(Bytes::copy_from_slice(signed.body())));
    *request.method_mut() = Method::POST;
    for (name, value) in signed.headers() {
        let (name, value) = (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        request.headers_mut().insert(name, value);
    }
    let answer = client.send(request).await.unwrap();
    response::parse::<A>(answer.status.as_u16(), answer.text.as_bytes()).map(|answered| answered.answer)
}

#[tokio::test]
async fn core_calls_every_action() {
    let client = start(Config { world: World::example(), ..Config::default() }).await;
    let image_id = IMAGE.parse().unwrap();
    let account = "1038493875".parse().unwrap();
    let write = ModifyImageSharePermission { image_id, account_ids: vec![account], permission: Permission::Share };
    call(&client, credential(), &write).await.unwrap();

    let listed = call(&client, credential(), &DescribeImageSharePermission { image_id }).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].account_id, account);
    assert!(listed[0].created_time.unwrap().get().abs_diff(Clock::unix_seconds()) <= 60);

    let images = call(&client, credential(), &DescribeImages { image_ids: vec![image_id] }).await.unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].image_state, Some(ImageState::Normal));

    let role = AssumeRole {
        role_arn: "qcs::cam::uin/100009999999:roleName/share".to_owned(),
        role_session_name: "imageshare".to_owned(),
        duration_seconds: Some(900),
        external_id: None,
    };
    let assumed = call(&client, credential(), &role).await.unwrap();
    let identity = AssumeRoleWithWebIdentity {
        provider_id: "cls-12345678".to_owned(),
        web_identity_token: "a.b.c".parse().unwrap(),
        role_arn: role.role_arn.clone(),
        role_session_name: "imageshare".to_owned(),
        duration_seconds: None,
    };
    let unsigned = call_unsigned(&client, &identity).await.unwrap();
    assert!(unsigned.expires_at.get() > Clock::unix_seconds() + 7000);

    let identity = call(&client, assumed.credential, &GetCallerIdentity).await.unwrap();
    assert_eq!(identity.account_id.get(), 100_009_999_999);
}

#[tokio::test]
async fn core_parses_a_refusal() {
    let client = start(Config { world: World::example(), ..Config::default() }).await;
    let image_id = "img-fu11c0de".parse().unwrap();
    let account_ids = vec!["1038493875".parse().unwrap()];
    let write = ModifyImageSharePermission { image_id, account_ids, permission: Permission::Share };
    match call(&client, credential(), &write).await {
        Err(Failure::Api(error)) => assert_eq!((&*error.code, error.request_id.is_some()), ("OverQuota", true)),
        other => panic!("{other:?}"),
    }
}
