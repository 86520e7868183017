//! Signs an action that the crate does not define, DescribeInstances, and prints a curl command that sends it.
//!
//! ```sh
//! export TENCENTCLOUD_SECRET_ID=... TENCENTCLOUD_SECRET_KEY=...
//! cargo run --package imageshare-core --example sign_any_action
//! ```
//!
//! Without keys in the environment it signs with the vendor's example key, which no server accepts. The signature is valid for
//! five minutes.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a program, unlike the crate, reads the clock and the environment"
)]

use std::{env, error::Error, time::SystemTime};

use imageshare_core::{
    Credential, UnixSeconds,
    actions::Action,
    params::{ParameterWriter, Parameters},
    request::{Host, Prepared, Signer, Target},
    response::{self, NotAnAnswer},
};
use serde::{Deserialize, Deserializer};

/// DescribeInstances of CVM.
struct DescribeInstances {
    instance_ids: Vec<String>,
    limit: u64,
}

impl Parameters for DescribeInstances {
    fn write_parameters(&self, to: &mut impl ParameterWriter) {
        to.texts("InstanceIds", &self.instance_ids);
        to.number("Limit", self.limit);
    }
}

impl Action for DescribeInstances {
    const NAME: &'static str = "DescribeInstances";
    const SERVICE: &'static str = "cvm";
    const VERSION: &'static str = "2017-03-12";
    /// The number of instances.
    type Answer = u64;

    fn answer<'de, D: Deserializer<'de>>(members: D) -> Result<Result<u64, NotAnAnswer>, D::Error> {
        #[derive(Deserialize)]
        struct Members {
            #[serde(rename = "TotalCount")]
            total_count: u64,
        }
        Members::deserialize(members).map(|members| Ok(members.total_count))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let variable = |name, otherwise: &str| env::var(name).unwrap_or_else(|_| otherwise.to_owned());
    let credential = Credential {
        secret_id: variable("TENCENTCLOUD_SECRET_ID", "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE").parse()?,
        secret_key: variable("TENCENTCLOUD_SECRET_KEY", "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE").parse()?,
        token: env::var("TENCENTCLOUD_TOKEN").ok().map(|token| token.parse()).transpose()?,
    };
    let action = DescribeInstances { instance_ids: vec!["ins-09dx96dg".to_owned()], limit: 20 };
    let region = Some("ap-guangzhou".parse()?);
    let host = Host::new("cvm.tencentcloudapi.com")?;
    let prepared = Prepared::new(&action, &Target { host, region, language: None });

    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let mut signer = Signer::new(credential);
    let request = signer.sign(&prepared, UnixSeconds::new(now.as_secs())?);
    println!("curl https://{host}{} \\", request.path());
    for (name, value) in request.headers() {
        println!("  --header '{name}: {value}' \\");
    }
    println!("  --data-binary '{}'", str::from_utf8(request.body())?);

    // What the server sends back goes to `parse`, with the status:
    let body = br#"{"Response":{"TotalCount":1,"InstanceSet":[],"RequestId":"71e69b56-32be-4412-ab45-49eded6a87be"}}"#;
    assert_eq!(response::parse::<DescribeInstances>(200, body)?.answer, 1);
    Ok(())
}
