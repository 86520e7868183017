//! Runs the crate tencentcloud-sdk with a source of credentials: `client key|assume_role|oidc|instance_role`. Requests and
//! responses are as in python.py.

use std::{collections::BTreeMap, env, error::Error, io, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tencentcloud_sdk::{
    Client, CommonClient, Credentials, Endpoint, SdkError,
    credentials::{
        AssumeRoleConfig, AssumeRoleCredentialsProvider, InstanceRoleCredentialsProvider, OidcRoleConfig,
        OidcRoleCredentialsProvider, RoleProviderOptions, StaticCredentialsProvider, WebIdentityToken,
    },
    transport::ReqwestTransport,
};

const ROLE: &str = "qcs::cam::uin/100009999999:roleName/share";

fn client(request: &Value) -> Result<CommonClient, SdkError> {
    let text = |name: &str| request[name].as_str().unwrap_or_default();
    let endpoint = Endpoint::loopback_http(&format!("http://{}", env::var("ENDPOINT").unwrap_or_default()))?;
    let transport = Arc::new(ReqwestTransport::new(Duration::from_secs(10))?);
    let options =
        RoleProviderOptions::new(transport.clone()).sts_endpoint(endpoint.clone()).metadata_endpoint(endpoint.clone());
    let mut key = Credentials::new(text("secret_id"), text("secret_key"))?;
    if !text("token").is_empty() {
        key = key.with_token(text("token"))?;
    }
    let service = text("service").to_owned();
    let client = Client::builder().shared_transport(transport).region(text("region")).endpoint(service.clone(), endpoint);
    let client = match env::args().nth(1).as_deref() {
        Some("assume_role") => {
            let (key, role) = (StaticCredentialsProvider::new(key), AssumeRoleConfig::new("ap-guangzhou", ROLE));
            client.credentials_provider(AssumeRoleCredentialsProvider::new(Arc::new(key), role, options)?)
        }
        Some("oidc") => {
            let token = WebIdentityToken::Inline("a.b.c".to_owned());
            let role = OidcRoleConfig::new("ap-guangzhou", "cls-12345678", ROLE, token);
            client.credentials_provider(OidcRoleCredentialsProvider::new(role, options)?)
        }
        Some("instance_role") => client.credentials_provider(InstanceRoleCredentialsProvider::new(None, options)?),
        _ => client.credentials(key),
    };
    let version = if service == "sts" { "2018-08-13" } else { "2017-03-12" };
    CommonClient::new(client.build()?, service, version)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    for line in io::stdin().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let action = request["action"].as_str().unwrap_or_default();
        let response = match client(&request)?.call::<_, BTreeMap<String, Value>>(action, &request["parameters"]).await {
            Ok(response) => json!(response.data),
            Err(SdkError::Service(error)) => {
                json!({"Error": {"Code": error.code, "Message": error.message}, "RequestId": error.request_id})
            }
            Err(error) => json!({"Error": {"Code": "", "Message": error.to_string()}, "RequestId": ""}),
        };
        println!("{response}");
    }
    Ok(())
}
