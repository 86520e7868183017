//! TLS to the broker: trusted authorities, client certificates, and the errors for rejected certificates.

use kit::{BrokerNode, Certificate, CertificateAuthority, Folder, Program, ProgramOutput, Vhost, free_port};

/// A broker that requires TLS client certificates, and the files of a client.
struct TlsBroker {
    node: BrokerNode,
    port: u16,
    authority: CertificateAuthority,
    folder: Folder,
}

impl TlsBroker {
    fn start() -> Self {
        let (authority, folder, port) = (CertificateAuthority::new("trusted"), Folder::new(), free_port());
        let path = |name: &str| folder.path(name).display().to_string();
        let more = format!(
            "listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\n\
             ssl_options.keyfile = {}\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n",
            path("ca.pem"),
            path("server.pem"),
            path("server.key"),
        );
        folder.file("ca.pem", authority.pem());
        put(&folder, "server", &authority.issue("127.0.0.1"));
        put(&folder, "client", &authority.issue("imageshare"));
        Self { node: BrokerNode::start_with(&more), port, authority, folder }
    }

    /// Replaces the broker's certificate.
    fn use_certificate(&self, certificate: &Certificate) {
        put(&self.folder, "server", certificate);
        assert_eq!(self.node.eval("ssl:clear_pem_cache()."), "ok");
    }

    /// Runs `topology --declare` with these settings of the section `broker`.
    fn declare(&self, vhost: &Vhost<'_>, settings: &str) -> ProgramOutput {
        let url = vhost.url_with_port(self.port).replace("amqp://", "amqps://");
        let folder = self.folder.path("").display().to_string();
        let settings = settings.replace("{folder}", folder.trim_end_matches('/'));
        Program::new(["topology", "--declare", "--config"])
            .arg(self.folder.file("settings.toml", format!("[broker]\n{settings}\n")))
            .env("IMAGESHARE_BROKER_URL", url)
            .run()
    }
}

fn put(folder: &Folder, name: &str, Certificate { pem, key }: &Certificate) {
    folder.file(&format!("{name}.pem"), pem);
    folder.file(&format!("{name}.key"), key);
}

const TRUSTED: &str = "ca_file = \"{folder}/ca.pem\"";
const CLIENT_CERTIFICATE: &str = "client_certificate = \"{folder}/client.pem\"\nclient_key = \"{folder}/client.key\"";

#[test]
fn mutual_tls_with_private_authority_works() {
    let broker = TlsBroker::start();
    let vhost = broker.node.vhost();
    let both = format!("{TRUSTED}\n{CLIENT_CERTIFICATE}");
    broker.declare(&vhost, &both).check(0);

    let refused = |settings: &str, words: &str| {
        let ended = broker.declare(&vhost, settings).check(4);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    };
    // The broker's alert may be lost with the connection, so the program may have to infer the cause.
    let ours = "the other side refuses our certificate, or the lack of one";
    refused(TRUSTED, ours);
    put(&broker.folder, "client", &CertificateAuthority::new("another").issue("imageshare"));
    refused(&both, ours);
    put(&broker.folder, "client", &broker.authority.issue("imageshare"));

    broker.use_certificate(&broker.authority.issue_until("127.0.0.1", 2020));
    refused(&both, "no trusted connection to the broker: the certificate has expired");
    broker.use_certificate(&broker.authority.issue("broker.example"));
    refused(&both, "no trusted connection to the broker: the certificate is not for 127.0.0.1, but for broker.example");
    broker.use_certificate(&CertificateAuthority::new("another").issue("127.0.0.1"));
    refused(&both, "the certificate is from an authority that is not trusted here");

    let next = CertificateAuthority::new("next");
    broker.use_certificate(&next.issue("127.0.0.1"));
    broker.folder.file("next.pem", next.pem());
    broker.declare(&vhost, &both.replace("ca.pem", "next.pem")).check(0);
}
